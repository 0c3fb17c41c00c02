"""Verdicts by kind: each kind of question with its own fitted numbers, where the fit split gives it some."""

from collections.abc import Iterator

import numpy as np

from codemmlu.voting import rules
from codemmlu.voting.ballots import Array, Ballots, Whole
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.rules import Decision

# Rules that know no kinds: the features of `stacked` are weighed on all questions together.
_OF_THE_WHOLE = ("stacked",)


def decide(rule: str, ballots: Ballots, fitted: EnsembleModel) -> Decision:
    """Return the verdicts of one rule, with the model of each question's kind."""
    if rule in _OF_THE_WHOLE:
        return rules.decide(rule, ballots, fitted)
    letters, shares = np.full(len(ballots.task_ids), -1), np.zeros(ballots.choices.shape)
    for rows, own, model in parts(ballots, fitted):
        part = rules.decide(rule, own, model)
        letters[rows], shares[rows] = part.letters, part.probabilities
    return Decision(letters, shares)


def calibrated(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the voters' log-probabilities as `rules.calibrated`, with the temperatures of each question's kind."""
    logs = np.zeros((*ballots.voting.shape, ballots.choices.shape[1]))
    for rows, own, model in parts(ballots, fitted):
        logs[rows] = rules.calibrated(own, model)
    return logs


def parts(ballots: Ballots, fitted: EnsembleModel) -> Iterator[tuple[Whole, Ballots, EnsembleModel]]:
    """Yield the indices and the ballots of the questions of each kind, with the model of the kind."""
    if not fitted.kinds or not ballots.kinds:
        yield np.arange(len(ballots.task_ids)), ballots, fitted
        return
    kinds = np.array(ballots.kinds)
    for kind in sorted(set(ballots.kinds)):
        rows = np.flatnonzero(kinds == kind)
        yield rows, ballots.rows(rows), fitted.on(kind)
