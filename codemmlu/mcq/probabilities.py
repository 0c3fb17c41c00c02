"""Readings to probabilities over the choices, and probabilities to a letter."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codemmlu.schema import Reading, letters

Probabilities = npt.NDArray[np.float64]

# Far above what adding up in another order changes (1e-15), far below what a float32 log-probability can tell apart.
_ROUNDING = 1e-9


def is_finite(reading: Reading) -> bool:
    """Whether every letter of a reading came back with a finite log-probability."""
    return all(math.isfinite(value) for value in reading.logprobs)


def log_softmax(logits: Probabilities) -> Probabilities:
    """Log-probabilities that sum to one, along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalised: Probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def choice_probabilities(
    readings: Sequence[Reading], log_prior: Sequence[float] | None = None, size: int | None = None
) -> Probabilities:
    """Probabilities over a question's choices, shape (n_choices,): the normalised mean log-probability.

    size: the number of choices, where readings show some of them only; those not shown have none of the probability

    Each reading is normalised over its letters, the letters' prior is divided out where it is given, and what is left
    is mapped back from the order it was shown in.
    """
    if not readings:
        raise ValueError("no readings")
    by_choice = np.full((len(readings), size or len(readings[0].order)), -np.inf)
    for row, reading in zip(by_choice, readings, strict=True):
        by_letter = np.asarray(reading.logprobs, dtype=np.float64)
        if log_prior is not None:
            by_letter = by_letter - np.asarray(log_prior)
        row[list(reading.order)] = log_softmax(by_letter)
    return np.exp(log_softmax(by_choice.mean(axis=0)))


def margin(probabilities: Sequence[float] | Probabilities) -> float:
    """How far the likeliest choice is ahead of the next one, in [0, 1]; 1 of a single choice."""
    first, *rest = sorted((float(p) for p in probabilities), reverse=True)
    return first - rest[0] if rest else 1.0


def mean(several: Sequence[Sequence[float]]) -> Probabilities:
    """The mean of several probabilities over the same choices."""
    result: Probabilities = np.asarray(several, dtype=np.float64).mean(axis=0)
    return result


def pick(probabilities: Sequence[float] | Probabilities) -> str:
    """The most probable letter; of equals the first. What differs by rounding alone is equal."""
    values = np.asarray(probabilities)
    return letters(len(values))[int((values >= values.max() - _ROUNDING).argmax())]
