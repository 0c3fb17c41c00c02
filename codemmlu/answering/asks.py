"""Asks: what reaches an engine. Asks are stored, voters are views on them.

Two voters that differ only in what is done with the readings share one ask. An answer's key is a hash of everything
that determines it, so that a changed recipe never shows a stale answer and an unchanged one asks nothing again.
"""

from dataclasses import dataclass

from codemmlu.prompts import template_digest
from codemmlu.recipe import VoterSettings, digest
from codemmlu.rows import Question


@dataclass(frozen=True)
class Ask:
    """One way of asking one model. `weights` is the fingerprint of the model and of what changes its numbers."""

    model: str
    weights: str
    method: str
    template: str

    @property
    def name(self) -> str:
        """A short stable name: the same in every run that asks the same thing."""
        return f"{self.method}-{self._digest[:12]}"

    @property
    def _digest(self) -> str:
        return digest("ask", 1, self.weights, self.method, template_digest(self.template))

    def key(self, question: Question) -> str:
        """32 hex digits for this ask of this question. The task_id is part of it: real files repeat whole questions."""
        return digest(self._digest, question.task_id, question.question, question.choices)


def ask_of(voter: VoterSettings, weights: str) -> Ask:
    """The ask behind a voter."""
    return Ask(voter.model, weights, voter.method, voter.template)
