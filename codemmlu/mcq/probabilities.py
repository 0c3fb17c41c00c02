"""The probabilities over the choices that readings give, and the letter that probabilities give."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codemmlu.schema import Reading, letters

Probabilities = npt.NDArray[np.float64]

# Far above the rounding error of adding in another order (1e-15), far below the resolution of a float32
# log-probability.
_ROUNDING = 1e-9


def is_finite(reading: Reading) -> bool:
    """Return whether every letter of a reading has a finite log-probability."""
    return all(math.isfinite(value) for value in reading.logprobs)


def log_softmax(logits: Probabilities) -> Probabilities:
    """Return log-probabilities: the logits, normalised along the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normalised: Probabilities = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normalised


def choice_probabilities(
    readings: Sequence[Reading], log_prior: Sequence[float] | None = None, size: int | None = None
) -> Probabilities:
    """Return the probabilities over a question's choices: the normalised mean log-probability.

    The letter prior is divided out of each reading; the result is normalised over the reading's letters, and mapped
    back from the order in which the choices were shown.

    Args:
        readings: Readings of one question.
        log_prior: Natural logarithm of each letter's prior; None: no prior is divided out.
        size: Number of choices, where readings show only some; a choice that is not shown has probability zero.

    Returns:
        Probabilities, shape (n_choices,).

    Raises:
        ValueError: There is no reading.
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
    """Return the lead of the likeliest choice over the next one, in [0, 1]; it is 1 for a single choice."""
    first, *rest = sorted((float(p) for p in probabilities), reverse=True)
    return first - rest[0] if rest else 1.0


def mean(several: Sequence[Sequence[float]]) -> Probabilities:
    """Return the mean of several probabilities over the same choices."""
    result: Probabilities = np.asarray(several, dtype=np.float64).mean(axis=0)
    return result


def pick(probabilities: Sequence[float] | Probabilities) -> str:
    """Return the most probable letter; among letters equal up to rounding, the first."""
    values = np.asarray(probabilities)
    return letters(len(values))[int((values >= values.max() - _ROUNDING).argmax())]
