"""Inference specs: what is sent to an engine or to the index.

Answers are stored by spec, and voters are views on them. Two voters that differ only in what they do with the readings
share one spec. An answer's key is a hash of everything that determines the answer, so that a changed recipe never shows
a stale answer and an unchanged one asks nothing again.
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

    Attributes:
        pool: The engines that answer.
        weights: Fingerprint of the model, its adapter and the settings that change its numbers; empty without a model.
        settings: The settings of the method, by name.
        examples: The most solved examples in the prompt, within `tokens` tokens.
        neighbours: The number of examples that are looked up.
        index: Fingerprint of the index and the selection policy; empty for a spec without retrieval.
        adapter: Where the adapter is; it is not part of the key, as the adapter's content is.
        length: The recipe's limit on the tokens of prompt and reply, where it decides what is shown; else 0.
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

    def option(self, name: str) -> Any:
        """Return one setting of the method."""
        return dict(self.settings)[name]

    @property
    def name(self) -> str:
        """Return a short stable name: the same in every run that asks in the same way."""
        return f"{self.method}-{self._digest[:12]}"

    @cached_property  # A run makes the keys of millions of questions.
    def _digest(self) -> str:
        words = [template_digest(self.template) if self.template else "", words_digest(self.method)]
        shown = (self.examples, self.neighbours, self.tokens, self.index, self.length)
        return digest("ask", 3, self.weights, self.method, words, self.settings, shown)

    def key(self, question: Question) -> str:
        """Return the key of the answer to a question under this spec: 32 hex digits."""
        # The task_id is part of the key because real files repeat whole questions.
        return digest(self._digest, question.task_id, question.question, question.choices)


def build_spec(
    voter: AskedVoter, weights: str, retrieval_key: RetrievalKey | None, adapter: Adapter | None = None, pilot: str = ""
) -> InferenceSpec:
    """Return the inference spec of a voter.

    Args:
        voter: The voter's settings.
        weights: The digest of the voter's model.
        retrieval_key: How the spec looks at solved examples; required for a voter that does.
        adapter: The adapter that the voter answers with.
        pilot: A digest of the calibration, for a voter that needs its result during inference.

    Returns:
        The spec, without what depends on the run: see `build_run_spec`.
    """
    if isinstance(voter, RetrieveVoter):
        assert retrieval_key is not None
        return InferenceSpec(voter.pool, "", voter.method, neighbours=voter.neighbours, index=retrieval_key.fitted)
    settings = method_settings(voter) | ({"pilot": pilot} if pilot else {})
    both = digest(weights, adapter.fingerprint) if adapter else weights
    options = tuple(sorted(settings.items()))
    path = adapter.path if adapter else ""
    plain = InferenceSpec(voter.pool, both, voter.method, voter.template, options, adapter=path)
    return plain if not voter.examples else _with_examples(plain, voter, retrieval_key)


def _with_examples(spec: InferenceSpec, voter: ModelVoter, retrieval_key: RetrievalKey | None) -> InferenceSpec:
    assert retrieval_key is not None
    return replace(
        spec,
        examples=voter.examples,
        neighbours=voter.examples * (2 if retrieval_key.spare else 1),
        tokens=retrieval_key.tokens,
        index=retrieval_key.fingerprint,
    )
