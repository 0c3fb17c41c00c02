"""The conditional logit: features of a question's choices, weighted so that the right choice is the likeliest.

P(choice) is proportional to exp(features @ weights) among the choices of one question (McFadden 1974). The weights are
fitted by maximum likelihood with penalties. One table stacks the choices of all questions, one row per choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
# The index of each question's right choice, from 0.
Right = Sequence[int] | Whole


@dataclass(frozen=True)
class ChoiceTable:
    """The choices of many questions, with one row for each choice.

    Attributes:
        features: Features of the choices of all questions, shape (choices, features).
        sizes: Number of choices of each question.
        right: Index of each question's right choice, from 0.
    """

    features: Array
    sizes: Sequence[int]
    right: Right


def fit(
    table: ChoiceTable, ridge: float = 0.0, lasso: float = 0.0, signs: bool = True, around: Array | None = None
) -> Array:
    """Fit the weights to the right choices of many questions.

    Args:
        table: The choices of the questions.
        ridge: Penalty on the squared distance from `around`, in log-likelihood of the whole table.
        lasso: Penalty on the absolute weights, in log-likelihood of the whole table; it requires `signs=False`.
        signs: Whether weights may be negative.
        around: The weights that the ridge draws to, shape (features,); None: zero.

    Returns:
        The weights, shape (features,).
    """
    from scipy import optimize  # SciPy is slow to import, and only fitting needs it.

    assert not (lasso and signs), "the absolute value has no gradient at zero"
    features = table.features
    counts, starts, chosen = _rows(table)
    bounds = None if signs else [(0.0, None)] * features.shape[1]
    centre = np.zeros(features.shape[1]) if around is None else around

    def loss(weights: Array) -> tuple[float, Array]:
        logs, shares = _log_shares(features @ weights, starts, counts)
        gradient = features.T @ shares - features[chosen].sum(axis=0)
        away = weights - centre
        penalty = ridge * away @ away + lasso * weights.sum()
        return float(penalty - logs[chosen].sum()), gradient + 2 * ridge * away + lasso

    # SciPy's L-BFGS-B calls LAPACK on matrices of a few numbers, and OpenBLAS splits each call among all cores: on two
    # busy cores, nine tenths of the time of a fit was one thread's wait for the other (scipy/scipy#22438).
    with _blas().limit(limits=1, user_api="blas"):
        optimum = optimize.minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds)
    result: Array = np.asarray(optimum.x, dtype=np.float64)
    return result


@cache
def _blas() -> Any:
    """Return the controller of the loaded BLAS libraries; call this only after SciPy has loaded BLAS."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def log_likelihoods(table: ChoiceTable, weights: Array) -> Array:
    """Return the natural log-probability of each question's right choice, shape (questions,); see `fit`."""
    counts, starts, chosen = _rows(table)
    logs, _ = _log_shares(table.features @ weights, starts, counts)
    right: Array = logs[chosen]
    return right


def _rows(table: ChoiceTable) -> tuple[Whole, Whole, Whole]:
    """Return each question's number of choices, its first row, and the row of its right choice."""
    counts = np.asarray(table.sizes, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    return counts, starts, starts + np.asarray(table.right)


def _log_shares(scores: Array, starts: Whole, counts: Whole) -> tuple[Array, Array]:
    """Return each choice's log-probability and probability; `starts` holds the first row of each question."""
    top = np.repeat(np.maximum.reduceat(scores, starts), counts)
    exponents = np.exp(scores - top)
    total = np.repeat(np.add.reduceat(exponents, starts), counts)
    return scores - top - np.log(total), exponents / total
