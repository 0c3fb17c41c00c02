"""The probe `verbatim`: a choice that stands in the question, near the gap that it is to fill.

It reads a defect of the benchmark: the masked line was never taken out of the program. It is an artefact.
"""

from collections.abc import Sequence

from codemmlu.dataset.kind import GAP, kind_of
from codemmlu.evidence.frequencies import Feature
from codemmlu.evidence.probe import Observation
from codemmlu.sandbox import Sandbox
from codemmlu.schema import Question


class Verbatim:
    """Where each choice stands in the text around the gap."""

    version = 1
    artefact = True
    uses_tools = False

    def language(self, question: Question) -> str | None:
        """Return an empty string for a question with a gap: no tool is needed."""
        return "" if kind_of(question) == "fill_in_the_middle" else None

    def observe(self, question: Question, sandbox: Sandbox | None) -> Observation | None:
        """Return an observation without content: all of it stands in the question."""
        return Observation("", ())

    def features(self, question: Question, observation: Observation) -> Sequence[Feature] | None:
        """Return where each choice stands; None where no choice stands beside the gap."""
        gap = GAP.search(question.question)
        if gap is None:
            return None
        before = _lines(question.question[: gap.start()])
        after = _lines(question.question[gap.end() :])
        places = [_place(_lines(choice), before, after) for choice in question.choices]
        return None if not {"after", "before"} & set(places) else [(place,) for place in places]


def _lines(text: str) -> list[str]:
    """Return the lines of a text that are not empty, without blanks."""
    return [line for raw in text.splitlines() if (line := "".join(raw.split()))]


def _place(choice: list[str], before: list[str], after: list[str]) -> str:
    if not choice:
        return "empty"
    if after[: len(choice)] == choice:
        return "after"
    if before[-len(choice) :] == choice:
        return "before"
    if after and after[0].startswith(choice[0]) and len(choice[0]) > 3:
        return "begins after"
    whole = "\n".join([*before, "", *after])
    return "elsewhere" if "\n".join(choice) in whole else "absent"
