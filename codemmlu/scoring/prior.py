"""The letter prior: what a model says before it has read anything, by letter, and how it is taken out.

Estimated from readings without labels: over many questions the right letters are spread evenly, so the mean of what a
model says is its own liking (batch calibration: Zhou et al. 2023, arXiv:2309.17249; the prior by permutations, PriDe:
Zheng et al. 2024, arXiv:2309.03882). One prior for each number of choices, as the letters on offer change the liking.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from codemmlu.rows import Reading
from codemmlu.scoring.readings import Probabilities, log_softmax

# A prior of few questions is mixed with the uniform one, as if so many questions had said nothing in particular.
UNIFORM_QUESTIONS = 8.0

# Number of choices to the natural logarithm of each letter's share.
Prior = Mapping[int, tuple[float, ...]]


def estimate(questions: Iterable[Sequence[Reading]], shrunk: bool = True) -> dict[int, tuple[float, ...]]:
    """The prior from each question's readings; every question counts the same, however many readings it has.

    shrunk: towards uniform, where the questions are few. Does not depend on the questions' order.
    """
    said: dict[int, list[Probabilities]] = {}
    for readings in questions:
        if readings:
            by_letter = np.array([np.exp(log_softmax(np.array(r.logprobs, dtype=np.float64))) for r in readings])
            said.setdefault(by_letter.shape[1], []).append(by_letter.mean(axis=0))
    uniform = UNIFORM_QUESTIONS if shrunk else 0.0
    return {size: _mean(rows, size, uniform) for size, rows in sorted(said.items())}


def of_size(prior: Prior, size: int) -> tuple[float, ...]:
    """The prior of questions with `size` choices; uniform where none of them was seen."""
    return prior.get(size) or (-math.log(size),) * size


def _mean(rows: Sequence[Probabilities], size: int, uniform: float) -> tuple[float, ...]:
    sums = [math.fsum(float(row[letter]) for row in rows) for letter in range(size)]
    return tuple(math.log((total + uniform / size) / (len(rows) + uniform)) for total in sums)
