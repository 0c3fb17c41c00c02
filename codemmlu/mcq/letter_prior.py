"""The letter prior: what a model says before it has read anything, by letter, and how it is taken out.

Estimated from readings without labels: over many questions the right letters are spread evenly, so the mean of what a
model says is its own liking (batch calibration: Zhou et al. 2023, arXiv:2309.17249; the prior by permutations, PriDe:
Zheng et al. 2024, arXiv:2309.03882). One prior for each number of choices, as the letters on offer change the liking.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from codemmlu.mcq.probabilities import Probabilities, log_softmax
from codemmlu.schema import Reading

# A prior of few questions is mixed with the uniform one, as if so many questions had said nothing in particular.
UNIFORM_QUESTIONS = 8.0

# Number of choices to the natural logarithm of each letter's share.
Prior = Mapping[int, tuple[float, ...]]


def estimate(questions: Iterable[Sequence[Reading]], shrunk: bool = True) -> dict[int, tuple[float, ...]]:
    """The prior from each question's readings; every question counts the same, however many readings it has.

    shrunk: towards uniform, where the questions are few. Does not depend on the questions' order.
    """
    return of_sums([sums(questions)], shrunk)


def sums(questions: Iterable[Sequence[Reading]]) -> list[tuple[int, list[float]]]:
    """What a prior is made of, for each number of choices: how many questions, and the sum of what they say by
    letter."""
    said: dict[int, list[Probabilities]] = {}
    for readings in questions:
        if readings:
            by_letter = np.array([np.exp(log_softmax(np.array(r.logprobs, dtype=np.float64))) for r in readings])
            said.setdefault(by_letter.shape[1], []).append(by_letter.mean(axis=0))
    return [(len(rows), [math.fsum(column) for column in zip(*rows, strict=True)]) for rows in said.values()]


def of_sums(
    parts: Iterable[Sequence[tuple[int, Sequence[float]]]], shrunk: bool = True
) -> dict[int, tuple[float, ...]]:
    """The prior of the questions of all parts; see `estimate`."""
    by_size: dict[int, list[tuple[int, Sequence[float]]]] = {}
    for part in parts:
        for count, totals in part:
            by_size.setdefault(len(totals), []).append((count, totals))
    uniform = UNIFORM_QUESTIONS if shrunk else 0.0
    found = {}
    for size, rows in sorted(by_size.items()):
        told = sum(count for count, _ in rows) + uniform
        totals = [math.fsum([*column, uniform / size]) for column in zip(*(totals for _, totals in rows), strict=True)]
        found[size] = tuple(math.log(total / told) for total in totals)
    return found


def of_size(prior: Prior, size: int) -> tuple[float, ...]:
    """The prior of questions with `size` choices; uniform where none of them was seen."""
    return prior.get(size) or (-math.log(size),) * size
