"""Inference specs: what is sent to an engine or to the index.

Answers are stored by spec, and voters are views on them. Two voters that differ only in what they do with the readings
share one spec. An answer's key is a hash of everything that determines the answer, so that a changed recipe never shows
a stale answer and an unchanged one asks nothing again: `InferenceSpec.key` makes the key, and `voters.SpecBuilder`
decides what a spec holds.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import JsonValue

from codemmlu.dataset.references import references_position, without_letters
from codemmlu.evidence import PROBES
from codemmlu.mcq import template_digest
from codemmlu.recipe import digest
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
        wording: Digest of the method's own wording; see `Method`.
        tools: The tool and its version for each language, for a method that uses tools; part of a question's key is the
            tool of its own language, so that a question is looked at again once a tool is there or is another one.
        length: The recipe's limit on the tokens of prompt and reply, where it decides what is shown; else 0.
        early_exit: Whether `direct` reads on only while choices are close. The key has it by the settings `margin` and
            `pilot`, which no other spec has.
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
    wording: str = ""
    early_exit: bool = False
    tools: tuple[tuple[str, str], ...] | None = None

    def option(self, name: str) -> Any:
        """Return one setting of the method."""
        return dict(self.settings)[name]

    @property
    def name(self) -> str:
        """Return a short stable name: the same in every run that asks in the same way."""
        return f"{self.method}-{self._digest[:12]}"

    @cached_property  # A run makes the keys of millions of questions.
    def _digest(self) -> str:
        words = [template_digest(self.template) if self.template else "", self.wording]
        shown = (self.examples, self.neighbours, self.tokens, self.index, self.length)
        return digest("ask", 3, self.weights, self.method, words, self.settings, shown)

    def key(self, question: Question) -> str:
        """Return the key of the answer to a question under this spec: 32 hex digits."""
        # The task_id is part of the key because real files repeat whole questions.
        return digest(self._digest, question.task_id, question.question, question.choices, *self._changes(question))

    def _changes(self, question: Question) -> list[str]:
        """Return what else determines an answer: the tool of the question's language, or changed prompts (issue 9).

        A prompt is named where it has changed since keys exist, for the questions that this concerns.
        """
        if self.tools is not None:
            return [dict(self.tools).get(PROBES[self.method].language(question) or "", "")]
        if not self.template:
            return []
        has_letters = without_letters(question.choices) != question.choices
        reads_orders = dict(self.settings).get("readings", 1) != 1
        is_fixed = reads_orders and references_position(question.question, question.choices)
        return ["without letters"] * has_letters + ["own order"] * is_fixed
