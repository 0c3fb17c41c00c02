"""The letter prior: a model's preference for each letter, whatever the question, to be divided out of readings.

It is estimated from readings without labels: over many questions the right letters are spread evenly, so the mean of a
model's letter probabilities is the model's preference (batch calibration: Zhou et al. 2023, arXiv:2309.17249; the prior
by permutations, PriDe: Zheng et al. 2024, arXiv:2309.03882). Each number of choices has a prior of its own, as the
preference depends on the letters on offer. Which readings a voter's prior is estimated from is up to the caller: see
"The path of a letter prior" in docs/architecture.md.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from codemmlu.mcq.probabilities import Probabilities, log_softmax
from codemmlu.schema import Reading

# Pseudo-count: the uniform prior is mixed in, as if this many questions had shown no preference. It matters where the
# questions are few.
UNIFORM_QUESTIONS = 8.0

# Maps a number of choices to the natural logarithm of each letter's share.
Prior = Mapping[int, tuple[float, ...]]


def estimate(questions: Iterable[Sequence[Reading]], shrunk: bool = True) -> dict[int, tuple[float, ...]]:
    """Estimate the prior from the readings of many questions.

    Every question counts the same, however many readings it has, and the order of the questions does not matter.

    Args:
        questions: The readings of each question.
        shrunk: Whether to shrink a prior of few questions towards the uniform one.

    Returns:
        For each number of choices, the natural logarithm of each letter's share.
    """
    return of_sums([sums(questions)], shrunk)


def sums(questions: Iterable[Sequence[Reading]]) -> list[tuple[int, list[float]]]:
    """Return the sums that a prior is made of, which `of_sums` can add up over several parts.

    Args:
        questions: The readings of each question.

    Returns:
        For each number of choices, the number of questions and the sum of their probabilities by letter.
    """
    by_size: dict[int, list[Probabilities]] = {}
    for readings in questions:
        if readings:
            by_letter = np.array([np.exp(log_softmax(np.array(r.logprobs, dtype=np.float64))) for r in readings])
            by_size.setdefault(by_letter.shape[1], []).append(by_letter.mean(axis=0))
    return [(len(rows), [math.fsum(column) for column in zip(*rows, strict=True)]) for rows in by_size.values()]


def of_sums(
    parts: Iterable[Sequence[tuple[int, Sequence[float]]]], shrunk: bool = True
) -> dict[int, tuple[float, ...]]:
    """Return the prior of the questions of all parts, given by their `sums`; see `estimate`."""
    by_size: dict[int, list[tuple[int, Sequence[float]]]] = {}
    for part in parts:
        for count, totals in part:
            by_size.setdefault(len(totals), []).append((count, totals))
    uniform = UNIFORM_QUESTIONS if shrunk else 0.0
    prior = {}
    for size, rows in sorted(by_size.items()):
        questions = sum(count for count, _ in rows) + uniform
        totals = [math.fsum([*column, uniform / size]) for column in zip(*(totals for _, totals in rows), strict=True)]
        prior[size] = tuple(math.log(total / questions) for total in totals)
    return prior


def of_size(prior: Prior, size: int) -> tuple[float, ...]:
    """Return the prior of questions with `size` choices; it is uniform where no such question was seen."""
    return prior.get(size) or (-math.log(size),) * size
