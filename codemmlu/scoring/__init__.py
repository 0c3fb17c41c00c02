"""Scoring: raw readings to probabilities over the choices. Pure numpy."""

from codemmlu.scoring.readings import choice_probabilities, is_finite, pick

__all__ = ["choice_probabilities", "is_finite", "pick"]
