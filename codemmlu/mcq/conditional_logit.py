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
class Penalty:
    """A penalty on the weights, in log-likelihood of the whole table.

    Attributes:
        ridge: The penalty on the squared weights.
        lasso: The penalty on the absolute weights; it requires weights that may not be negative.
    """

    ridge: float = 0.0
    lasso: float = 0.0


def fit(table: Array, sizes: Sequence[int], right: Right, penalty: Penalty, signs: bool = True) -> Array:
    """Fit the weights to the right choices of many questions.

    Args:
        table: Features of the choices of all questions, shape (choices, features).
        sizes: Number of choices of each question.
        right: Index of each question's right choice, from 0.
        penalty: The penalty on the weights.
        signs: Whether weights may be negative.

    Returns:
        The weights, shape (features,).
    """
    from scipy import optimize  # SciPy is slow to import, and only fitting needs it.

    ridge, lasso = penalty.ridge, penalty.lasso
    assert not (lasso and signs), "the absolute value has no gradient at zero"
    counts = np.asarray(sizes, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    chosen = starts + np.asarray(right)
    bounds = None if signs else [(0.0, None)] * table.shape[1]

    def loss(weights: Array) -> tuple[float, Array]:
        logs, shares = _log_shares(table @ weights, starts, counts)
        gradient = table.T @ shares - table[chosen].sum(axis=0)
        price = ridge * weights @ weights + lasso * weights.sum()
        return float(price - logs[chosen].sum()), gradient + 2 * ridge * weights + lasso

    # SciPy's L-BFGS-B calls LAPACK on matrices of a few numbers, and OpenBLAS splits each call among all cores: on two
    # busy cores, nine tenths of the time of a fit was one thread's wait for the other (scipy/scipy#22438).
    with _blas().limit(limits=1, user_api="blas"):
        optimum = optimize.minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    result: Array = np.asarray(optimum.x, dtype=np.float64)
    return result


@cache
def _blas() -> Any:
    """Return the controller of the loaded BLAS libraries; call this only after SciPy has loaded BLAS."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def log_likelihoods(table: Array, weights: Array, sizes: Sequence[int], right: Right) -> Array:
    """Return the natural log-probability of each question's right choice, shape (questions,); see `fit`."""
    counts = np.asarray(sizes, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    logs, _ = _log_shares(table @ weights, starts, counts)
    chosen: Array = logs[starts + np.asarray(right)]
    return chosen


def _log_shares(scores: Array, starts: Whole, counts: Whole) -> tuple[Array, Array]:
    """Return each choice's log-probability and probability; `starts` holds the first row of each question."""
    top = np.repeat(np.maximum.reduceat(scores, starts), counts)
    exponents = np.exp(scores - top)
    total = np.repeat(np.add.reduceat(exponents, starts), counts)
    return scores - top - np.log(total), exponents / total
