"""Frequencies: how often a choice with some feature is right, counted on labelled examples alone.

A feature has levels, from what it is in general to what it is in detail. The share of right choices at a level is
shrunk to that of the level above, and the first level to the share by chance (additive smoothing). The odds of these
shares, over the choices of a question, are the probabilities: of independent pieces of evidence about which one choice
is right, each counts by its odds.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from codemmlu.mcq import Probabilities

Feature = tuple[str, ...]  # the names of the levels, the most general first
_PSEUDO = 3.0  # choices at the share of the level above that each level is shrunk by
_MARGIN = 0.005  # shares stay this far from 0 and 1: no feature is certain


@dataclass
class Frequencies:
    """Counts of choices by feature.

    Attributes:
        offered: How many choices had a level of a feature.
        right: How many of these were right.
    """

    offered: Counter[Feature] = field(default_factory=Counter)
    right: Counter[Feature] = field(default_factory=Counter)

    def add(self, features: Sequence[Feature], answer: int, sign: int = 1) -> None:
        """Count the choices of a labelled question; with sign -1 take them out again."""
        for position, feature in enumerate(features):
            for depth in range(1, len(feature) + 1):
                self.offered[feature[:depth]] += sign
                self.right[feature[:depth]] += sign * (position == answer)

    def probabilities(self, features: Sequence[Feature], answer: int | None = None) -> Probabilities:
        """Return the probabilities of a question's choices, shape (n_choices,).

        Args:
            features: The feature of each choice.
            answer: The right choice of a question that has been added, whose own counts are left out.
        """
        if answer is not None:
            self.add(features, answer, -1)
        try:
            shares = np.array([self._share(feature, 1 / len(features)) for feature in features])
        finally:
            if answer is not None:
                self.add(features, answer)
        odds = shares / (1 - shares)
        result: Probabilities = odds / odds.sum()
        return result

    def _share(self, feature: Feature, chance: float) -> float:
        share = chance
        for depth in range(1, len(feature) + 1):
            level = feature[:depth]
            share = (self.right[level] + _PSEUDO * share) / (self.offered[level] + _PSEUDO)
        return min(max(share, _MARGIN), 1 - _MARGIN)


def count(labelled: Iterable[tuple[Sequence[Feature] | None, int]]) -> Frequencies:
    """Return the counts over questions with their features (None: no evidence) and right choices."""
    frequencies = Frequencies()
    for features, answer in labelled:
        if features is not None:
            frequencies.add(features, answer)
    return frequencies
