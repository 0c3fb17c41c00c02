"""A probe: what is observed about a question, and which features of its choices follow from that.

What is stored is the observation. Features, and the frequencies that are learnt about them, are views on it: another
fit runs nothing again.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from codemmlu.evidence.frequencies import Feature
from codemmlu.sandbox import Limits, Outcome, Sandbox
from codemmlu.schema import Question

LIMITS = Limits(seconds=60.0, cpu=6, memory=1024, processes=64, files=32, output=20_000)
_KEPT = 2_000  # characters of an output that are stored


@dataclass(frozen=True)
class Run:
    """What a tool said of one program.

    Attributes:
        status: A status of the sandbox, or a word of the probe's own.
        printed: The start of the output.
        errors: The start of the messages.
        seconds: Wall time.
    """

    status: str
    printed: str = ""
    errors: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Observation:
    """What was observed about a question.

    Attributes:
        language: The language of its program; empty where no program is looked at.
        runs: What the tool said: of the program, or of the program with each choice.
    """

    language: str
    runs: tuple[Run, ...]

    def text(self) -> str:
        """Return the observation as one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @classmethod
    def parse(cls, text: str) -> "Observation":
        """Return the observation in a line of JSON."""
        fields = json.loads(text)
        return cls(fields["language"], tuple(Run(**run) for run in fields["runs"]))


def run_of(outcome: Outcome) -> Run:
    """Return what is stored of an outcome."""
    return Run(outcome.status, outcome.printed[:_KEPT], outcome.errors[:_KEPT], round(outcome.seconds, 3))


class Probe(Protocol):
    """A way to gather evidence.

    Attributes:
        version: The version of what it observes; it is part of the keys, so that another one looks again everywhere.
        artefact: Whether it reads a defect of the benchmark and not the problem.
        uses_tools: Whether programs run for it, in a sandbox.
    """

    version: int
    artefact: bool
    uses_tools: bool

    def language(self, question: Question) -> str | None:
        """Return the language whose tool is needed, empty for none; None: there is nothing to observe."""

    def observe(self, question: Question, sandbox: Sandbox | None) -> Observation | None:
        """Return what is observed, or None for nothing; the sandbox is there if `language` names one."""

    def features(self, question: Question, observation: Observation) -> Sequence[Feature] | None:
        """Return the feature of each choice; None: the observation says nothing about the choices."""
