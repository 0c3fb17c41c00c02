"""Thresholds: from which P(TRUE) on an answer is accepted, fitted on examples that were asked to the end."""

import itertools
import math
from collections.abc import Iterable, Mapping

import numpy as np

from codemmlu.inference.spec import Ask
from codemmlu.schema import Answer, Question

# What is chosen where nothing tells two thresholds apart, as in the reference project.
DEFAULT = 0.5


def fit_threshold(questions: Iterable[Question], ask: Ask, answers: Mapping[str, Answer]) -> float:
    """The threshold under which most questions would have been answered right; of equals the nearest to DEFAULT.

    answers: conversations in which nothing was accepted before one choice was left, so that what any threshold would
    have made of them stands there: the first answer whose check reaches it, or the last one.
    """
    said = [
        (question.answer, found)
        for question in questions
        if (found := answers.get(ask.key(question))) and found.status == "answered" and question.answer
    ]
    if not said:
        return DEFAULT
    checks = sorted({turn.p_true for _, answer in said for turn in answer.turns if turn.p_true is not None})
    between = [(low + high) / 2 for low, high in itertools.pairwise(checks)]
    # Between checks, not at one: stored as float32, it may not compare as it did while asking.
    candidates = [DEFAULT, 0.0, 1.0, *between]
    spans = [span for right, answer in said for span in _right(answer, right)]
    begins, ends = np.sort([low for low, _ in spans]), np.sort([high for _, high in spans])
    hits = np.searchsorted(begins, candidates, "left") - np.searchsorted(ends, candidates, "left")
    best = max(zip(hits, candidates, strict=True), key=lambda one: (one[0], -abs(one[1] - DEFAULT)))
    return best[1]


def _right(answer: Answer, right: str) -> list[tuple[float, float]]:
    """The thresholds, from above the first to the second, under which a conversation ends with the right letter."""
    found, reached = [], -math.inf
    for turn in answer.turns:
        if turn.p_true is not None and turn.p_true > reached:
            if turn.letter == right:
                found.append((reached, turn.p_true))
            reached = turn.p_true
    return [*found, (reached, math.inf)] if answer.turns[-1].letter == right else found
