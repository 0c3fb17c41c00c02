"""Skill from agreement alone, without labels (Dawid and Skene 1979).

The skill of a voter is one number here, instead of a table. A voter knows a question with probability `skill` and
guesses otherwise: it is right with 1/k + skill (1 - 1/k). Which letter a voter names does not matter, so questions on
which the same voters agree are counted together: the time does not grow with the number of questions. Errors that
voters share look like knowledge here; the skills of only two voters cannot be separated.
"""

from collections.abc import Sequence

import numpy as np

from codemmlu.voting.ballots import Whole

_ROUNDS = 200
_ENOUGH = 1e-7
# Pseudo-counts: four questions of which each voter knew half, because a result on few questions is chance in part.
_PRIOR, _START = 4.0, 0.5


def skills(voters: Sequence[str], letters: Whole, sizes: Whole) -> dict[str, float]:
    """Return each voter's skill, in [0, 0.98].

    Args:
        voters: The voters' names.
        letters: The choice that each voter named, -1 for none, (questions, voters).
        sizes: The number of choices of each question, (questions,).

    Returns:
        The skills by voter; empty without questions.
    """
    if not len(letters):
        return {}
    patterns, counts = np.unique(np.column_stack([_same(letters), sizes]), axis=0, return_counts=True)
    named_by, k = patterns[:, :-1], patterns[:, -1].astype(np.float64)
    classes = len(voters) + 1  # the last class: the choices that no voter named
    named = np.arange(classes) == named_by[:, :, None]
    rest = k - named.any(axis=1).sum(axis=1)  # how many choices no voter named
    members = np.where(named.any(axis=1), 1.0, 0.0)
    members[:, -1] = rest
    votes = named_by >= 0
    skill = np.full(len(voters), _START)
    for _ in range(_ROUNDS):
        right = 1 / k[:, None] + skill * (1 - 1 / k[:, None])
        wrong = (1 - right) / np.maximum(k[:, None] - 1, 1)
        hit, miss = np.log(np.clip(right, 1e-12, 1)), np.log(np.clip(wrong, 1e-12, 1))
        logs = np.where(named, hit[:, :, None], miss[:, :, None]) * votes[:, :, None]
        with np.errstate(divide="ignore"):
            posterior = np.exp(logs.sum(axis=1)) * members
        posterior /= posterior.sum(axis=1, keepdims=True)
        agreed = (named * posterior[:, None, :]).sum(axis=2)  # the probability that this voter's letter is right
        weight = counts[:, None] * votes
        known = (weight * (agreed - 1 / k[:, None])).sum(axis=0) + _PRIOR * _START
        before, skill = skill, known / ((weight * (1 - 1 / k[:, None])).sum(axis=0) + _PRIOR)
        skill = np.clip(skill, 0.0, 0.98)
        if np.abs(skill - before).max() < _ENOUGH:
            break
    return {voter: float(value) for voter, value in zip(voters, skill, strict=True)}


def _same(letters: Whole) -> Whole:
    """Return each vote as the index of the first voter that names the same choice; -1 stays."""
    first_voters = np.full(letters.shape, -1)
    for column in reversed(range(letters.shape[1])):
        same = (letters == letters[:, [column]]) & (letters[:, [column]] >= 0)
        first_voters[same] = column
    return first_voters
