"""Skill from agreement alone, without any label (Dawid and Skene 1979; one number per voter instead of a table).

A voter knows a question with probability `skill` and guesses otherwise: it is right with 1/k + skill (1 - 1/k). Which
letter it is does not matter, so questions on which the same voters say the same are counted together: the time does
not grow with the questions. What voters err on together looks like knowledge here; two cannot be told apart.
"""

from collections.abc import Sequence

import numpy as np

from codemmlu.voting.ballots import Whole

_ROUNDS = 200
_ENOUGH = 1e-7
# As many questions as if each voter had known half of them: what few questions say is chance in part.
_PRIOR, _START = 4.0, 0.5


def skills(voters: Sequence[str], letters: Whole, sizes: Whole) -> dict[str, float]:
    """Each voter's skill, in [0, 0.98].

    letters: the choice each voter named, (questions, voters), -1: none; sizes: of the questions
    """
    if not len(letters):
        return {}
    patterns, counts = np.unique(np.column_stack([_same(letters), sizes]), axis=0, return_counts=True)
    said, k = patterns[:, :-1], patterns[:, -1].astype(np.float64)
    classes = len(voters) + 1  # a choice that nobody named is one more
    named = np.arange(classes) == said[:, :, None]
    rest = k - named.any(axis=1).sum(axis=1)  # how many choices nobody named
    members = np.where(named.any(axis=1), 1.0, 0.0)
    members[:, -1] = rest
    votes = said >= 0
    skill = np.full(len(voters), _START)
    for _ in range(_ROUNDS):
        right = 1 / k[:, None] + skill * (1 - 1 / k[:, None])
        wrong = (1 - right) / np.maximum(k[:, None] - 1, 1)
        hit, miss = np.log(np.clip(right, 1e-12, 1)), np.log(np.clip(wrong, 1e-12, 1))
        logs = np.where(named, hit[:, :, None], miss[:, :, None]) * votes[:, :, None]
        with np.errstate(divide="ignore"):
            posterior = np.exp(logs.sum(axis=1)) * members
        posterior /= posterior.sum(axis=1, keepdims=True)
        agreed = (named * posterior[:, None, :]).sum(axis=2)  # that what this voter said is right
        weight = counts[:, None] * votes
        known = (weight * (agreed - 1 / k[:, None])).sum(axis=0) + _PRIOR * _START
        before, skill = skill, known / ((weight * (1 - 1 / k[:, None])).sum(axis=0) + _PRIOR)
        skill = np.clip(skill, 0.0, 0.98)
        if np.abs(skill - before).max() < _ENOUGH:
            break
    return {voter: float(value) for voter, value in zip(voters, skill, strict=True)}


def _same(letters: Whole) -> Whole:
    """Each vote as the number of the first voter that says the same; -1 stays."""
    found = np.full(letters.shape, -1)
    for column in reversed(range(letters.shape[1])):
        same = (letters == letters[:, [column]]) & (letters[:, [column]] >= 0)
        found[same] = column
    return found
