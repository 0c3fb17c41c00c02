"""The probe `choices-only`: what a choice looks like beside its rivals, without a look at the problem.

It reads habits of those who write questions: the longest choice, the one that is like most others, "all of the above".
It is an artefact: a baseline of partial input (Balepur et al. 2024).
"""

import re
from collections.abc import Sequence

import numpy as np

from codemmlu.dataset.kind import kind_of
from codemmlu.evidence.frequencies import Feature
from codemmlu.evidence.probe import Observation
from codemmlu.sandbox import Sandbox
from codemmlu.schema import Question

_ALL = re.compile(r"\b(all|both)\b.{0,12}\b(of|the|above|mentioned)\b", re.I)
_NONE = re.compile(r"\b(none|neither)\b", re.I)
_ERROR = re.compile(r"\berror\b|exception", re.I)
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,12})?")
_EQUAL = 1e-9


class ChoicesOnly:
    """How each choice looks beside its rivals."""

    version = 1
    artefact = True
    uses_tools = False

    def language(self, question: Question) -> str | None:
        """Return an empty string: no tool is needed."""
        return ""

    def observe(self, question: Question, sandbox: Sandbox | None) -> Observation | None:
        """Return an observation without content: all of it stands in the choices."""
        return Observation("", ())

    def features(self, question: Question, observation: Observation) -> Sequence[Feature] | None:
        """Return the form of each choice, its rank by length, and its rank by likeness to its rivals."""
        # Blanks at the end are a trace of how a file was made.
        texts = [choice.strip() for choice in question.choices]
        forms = _forms(texts)
        lengths = _ranks([len(text) for text in texts])
        likeness = _ranks(_likeness(texts))
        kind = kind_of(question)
        features = []
        for form, length, like in zip(forms, lengths, likeness, strict=True):
            size = f"{form}, {length} long"
            features.append((form, size, f"{size}, {kind}", f"{size}, {kind}, {like} like"))
        return features


def _forms(texts: Sequence[str]) -> list[str]:
    """Return what each choice is: a number by its place among numbers, all of the others, none, an error, a text."""
    numbers = [float(text) if _NUMBER.fullmatch(text) else None for text in texts]
    known = [number for number in numbers if number is not None]
    forms = []
    for text, number in zip(texts, numbers, strict=True):
        if number is not None and len(known) > 2:
            forms.append(f"{_rank(number, known)} number")
        elif _ALL.search(text):
            forms.append("all")
        elif _NONE.search(text):
            forms.append("none")
        else:
            forms.append("error" if _ERROR.search(text) else "text")
    return forms


def _ranks(values: Sequence[float]) -> list[str]:
    return [_rank(value, values) for value in values]


def _rank(value: float, among: Sequence[float]) -> str:
    """Return whether a value is the most or the least of several; `equal` where all are."""
    if max(among) - min(among) < _EQUAL:
        return "equal"
    return "most" if value >= max(among) - _EQUAL else "least" if value <= min(among) + _EQUAL else "middle"


def _likeness(texts: Sequence[str]) -> list[float]:
    """Return the mean share of words that each choice has in common with its rivals."""
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    return [
        float(np.mean([len(own & other) / (len(own | other) + 1) for j, other in enumerate(words) if j != i] or [0.0]))
        for i, own in enumerate(words)
    ]
