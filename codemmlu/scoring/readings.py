"""Readings to probabilities over the choices, and probabilities to a letter."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codemmlu.rows import Reading, letters

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


def choice_probabilities(readings: Sequence[Reading]) -> Probabilities:
    """Probabilities over a question's choices, shape (n_choices,): the normalised mean log-probability.

    Each reading is normalised over its letters and mapped back from the order it was shown in.
    """
    if not readings:
        raise ValueError("no readings")
    by_choice = np.empty((len(readings), len(readings[0].order)))
    for row, reading in zip(by_choice, readings, strict=True):
        row[list(reading.order)] = log_softmax(np.asarray(reading.logprobs, dtype=np.float64))
    return np.exp(log_softmax(by_choice.mean(axis=0)))


def pick(probabilities: Sequence[float] | Probabilities) -> str:
    """The most probable letter; of equals the first. What differs by rounding alone is equal."""
    values = np.asarray(probabilities)
    return letters(len(values))[int((values >= values.max() - _ROUNDING).argmax())]
