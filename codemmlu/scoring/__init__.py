"""Scoring: raw readings to probabilities over the choices. Pure numpy."""

from codemmlu.scoring.orders import Readings, orders
from codemmlu.scoring.prior import Prior, estimate, of_size
from codemmlu.scoring.readings import Probabilities, choice_probabilities, is_finite, margin, mean, pick
from codemmlu.scoring.turns import p_true, ranked, shares, verified

__all__ = [
    "Prior",
    "Probabilities",
    "Readings",
    "choice_probabilities",
    "estimate",
    "is_finite",
    "margin",
    "mean",
    "of_size",
    "orders",
    "p_true",
    "pick",
    "ranked",
    "shares",
    "verified",
]
