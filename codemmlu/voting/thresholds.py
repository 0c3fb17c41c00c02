"""Thresholds: from which P(TRUE) on an answer is accepted, fitted on examples that were asked to the end."""

import itertools
from collections.abc import Iterable, Mapping

from codemmlu.answering.asks import Ask
from codemmlu.rows import Answer, Question

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
    return max(candidates, key=lambda t: (sum(_letter(a, t) == right for right, a in said), -abs(t - DEFAULT)))


def _letter(answer: Answer, threshold: float) -> str | None:
    accepted = (turn.letter for turn in answer.turns if turn.p_true is not None and turn.p_true >= threshold)
    return next(accepted, answer.turns[-1].letter)
