"""Asks: what reaches an engine or the index. Asks are stored, voters are views on them.

Two voters that differ only in what is done with the readings share one ask. An answer's key is a hash of everything
that determines it, so that a changed recipe never shows a stale answer and an unchanged one asks nothing again.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import JsonValue

from codemmlu.engine.lora import Adapter
from codemmlu.mcq import template_digest, words_digest
from codemmlu.recipe import AskedVoter, ModelVoter, RetrieveVoter, digest, method_settings
from codemmlu.retrieval.index import RetrievalKey
from codemmlu.schema import Question


@dataclass(frozen=True)
class InferenceSpec:
    """One way of asking one model, or the index alone.

    pool: the engines that answer it
    weights: the fingerprint of the model, its adapter and of what changes their numbers; empty without a model
    adapter: where the adapter is; no part of the key, as what is in it is
    settings: what the method is told, by name
    examples: how many solved examples the prompt shows, within `tokens` tokens; neighbours: how many are looked up
    index: the fingerprint of the view on them; empty for an ask that looks at none
    length: the most tokens that the recipe gives a prompt and what is written, where that decides what is shown; or 0
    """

    pool: str
    weights: str
    method: str
    template: str = ""
    settings: tuple[tuple[str, JsonValue], ...] = ()
    examples: int = 0
    neighbours: int = 0
    tokens: int = 0
    index: str = ""
    adapter: str = ""
    length: int = 0

    def setting(self, name: str) -> Any:
        """What the method is told under a name."""
        return dict(self.settings)[name]

    @property
    def name(self) -> str:
        """A short stable name: the same in every run that asks the same thing."""
        return f"{self.method}-{self._digest[:12]}"

    @cached_property  # a run makes the keys of millions of questions
    def _digest(self) -> str:
        words = [template_digest(self.template) if self.template else "", words_digest(self.method)]
        shown = (self.examples, self.neighbours, self.tokens, self.index, self.length)
        return digest("ask", 3, self.weights, self.method, words, self.settings, shown)

    def key(self, question: Question) -> str:
        """32 hex digits for this ask of this question. The task_id is part of it: real files repeat whole questions."""
        return digest(self._digest, question.task_id, question.question, question.choices)


def build_spec(
    voter: AskedVoter, weights: str, retrieval_key: RetrievalKey | None, adapter: Adapter | None = None, pilot: str = ""
) -> InferenceSpec:
    """The ask behind a voter.

    view: needed by those that look at examples
    pilot: needed by those that have to know a letter prior while they ask: a digest of what it is estimated from
    """
    if isinstance(voter, RetrieveVoter):
        assert retrieval_key is not None
        return InferenceSpec(voter.pool, "", voter.method, neighbours=voter.neighbours, index=retrieval_key.fitted)
    settings = method_settings(voter) | ({"pilot": pilot} if pilot else {})
    both = digest(weights, adapter.fingerprint) if adapter else weights
    told = tuple(sorted(settings.items()))
    plain = InferenceSpec(voter.pool, both, voter.method, voter.template, told, adapter=adapter.path if adapter else "")
    return plain if not voter.examples else _shown(plain, voter, retrieval_key)


def _shown(ask: InferenceSpec, voter: ModelVoter, retrieval_key: RetrievalKey | None) -> InferenceSpec:
    assert retrieval_key is not None
    looked_up = voter.examples * (2 if retrieval_key.spare else 1)
    return replace(
        ask, examples=voter.examples, neighbours=looked_up, tokens=retrieval_key.tokens, index=retrieval_key.fingerprint
    )
