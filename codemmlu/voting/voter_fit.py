"""The fit of one voter by itself: its temperature, and the skill that its right answers show."""

from dataclasses import dataclass

import numpy as np

from codemmlu.voting.ballots import Array, Ballots, Whole
from codemmlu.voting.model import VoterFit

# A voter with fewer votes on the fit split is not fitted: it gets the mean weight of the others.
FEWEST = 20
# Pseudo-counts: eight chance-level answers shrink the skill estimate of each voter towards zero.
_GUESSES = 8.0
_LOOSE = 0.25  # how strongly the logarithm of a temperature is drawn to zero


@dataclass(frozen=True)
class Around:
    """The numbers that a fit is drawn to.

    Attributes:
        temperature: A temperature.
        skill: A skill.
        temperature_pull: The precision of a normal prior on the logarithm of the temperature.
        skill_pull: How many questions the skill counts for.
    """

    temperature: float = 1.0
    skill: float = 0.0
    temperature_pull: float = _LOOSE
    skill_pull: float = _GUESSES


def fit_voter(ballots: Ballots, column: int, gold: Whole, looks: bool, around: Around = Around()) -> VoterFit:
    """Fit one voter by itself: its accuracy, the skill that this shows, and its temperature."""
    asked = np.isin(ballots.status[:, column], (0, 1))
    voted = ballots.voting[:, column]
    right = int((ballots.letters[voted, column] == gold[voted]).sum())
    chance = float((1 / ballots.sizes[voted]).sum())
    count = int(voted.sum())
    # The right answers beyond chance, as a share of the most that there can be on the questions with a vote.
    known = right - chance + around.skill_pull * around.skill
    skill = max(0.0, known / (count - chance + around.skill_pull)) if count else around.skill
    soft = voted & ~ballots.sharp[:, column]
    temperature = around.temperature
    if soft.sum() >= FEWEST:
        clipped = np.maximum(ballots.probabilities[soft, column], 1e-6)
        logs = np.where(ballots.choices[soft], np.log(clipped), -np.inf)
        temperature = _temperature(logs, gold[soft], around)
    return VoterFit(
        temperature=temperature, weight=1.0, skill=min(skill, 0.98), right=right, asked=int(asked.sum()), looks=looks
    )


def _temperature(logs: Array, gold: Whole, around: Around) -> float:
    """Return the temperature with the highest likelihood of the right choices, drawn to the one that is given."""
    from scipy import optimize  # slow to import, and only fitting needs it

    centre = np.log(around.temperature)

    def loss(power: float) -> float:
        scaled = logs / np.exp(power)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        penalty = 0.5 * around.temperature_pull * (power - centre) ** 2
        return float((total - scaled[np.arange(len(scaled)), gold]).sum() + penalty)

    return float(np.exp(optimize.minimize_scalar(loss, bounds=(-3, 5), method="bounded").x))
