"""The conditional logit: what speaks for each of a question's choices, weighed so that the right one is likeliest.

P(choice) is proportional to exp(features @ weights) among the choices of one question (McFadden 1974). Fitted by
maximum likelihood with penalties; the choices of all questions stand below each other in one table.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
# The right choice of each question, from 0.
Right = Sequence[int] | Whole


def fit(
    table: Array,
    sizes: Sequence[int],
    right: Right,
    ridge: float = 0.0,
    lasso: float = 0.0,
    signs: bool = True,
) -> Array:
    """The weights, shape (features,).

    table: (choices of all questions, features); sizes: choices of each question; right: its right choice, from 0
    ridge, lasso: penalties of the squared and of the absolute weights, in log-likelihood of the whole table
    signs: whether weights may be negative; the lasso needs that they may not
    """
    from scipy import optimize  # slow to import, and only fitting needs it

    assert not (lasso and signs), "the absolute value has no gradient at zero"
    counts = np.asarray(sizes, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    chosen = starts + np.asarray(right)
    bounds = None if signs else [(0.0, None)] * table.shape[1]

    def loss(weights: Array) -> tuple[float, Array]:
        logs, shares = _log_shares(table @ weights, starts, counts)
        gradient = table.T @ shares - table[chosen].sum(axis=0)
        penalty = ridge * weights @ weights + lasso * weights.sum()
        return float(penalty - logs[chosen].sum()), gradient + 2 * ridge * weights + lasso

    # SciPy's L-BFGS-B calls LAPACK on matrices of a few numbers, and OpenBLAS shares each call among all cores: on two
    # busy cores nine tenths of a fit were one thread's wait for the other (scipy/scipy#22438).
    with _blas().limit(limits=1, user_api="blas"):
        found = optimize.minimize(loss, np.zeros(table.shape[1]), jac=True, method="L-BFGS-B", bounds=bounds)
    result: Array = np.asarray(found.x, dtype=np.float64)
    return result


@cache
def _blas() -> Any:
    """Return the controller of the BLAS libraries, to be called once SciPy has loaded the one that it uses."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def log_likelihoods(table: Array, weights: Array, sizes: Sequence[int], right: Right) -> Array:
    """The natural logarithm of each question's probability of its right choice, shape (questions,)."""
    counts = np.asarray(sizes, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    logs, _ = _log_shares(table @ weights, starts, counts)
    found: Array = logs[starts + np.asarray(right)]
    return found


def _log_shares(scores: Array, starts: Whole, counts: Whole) -> tuple[Array, Array]:
    top = np.repeat(np.maximum.reduceat(scores, starts), counts)
    exponents = np.exp(scores - top)
    total = np.repeat(np.add.reduceat(exponents, starts), counts)
    return scores - top - np.log(total), exponents / total
