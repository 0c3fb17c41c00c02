"""Fitting by kind: a voter may know one kind of question and guess another.

Temperatures, skills and weights of each kind are drawn to those of the whole, as if the whole counted for some number
of questions (partial pooling; Gelman and Hill 2007). Cross-validation on the fit split chooses how many, and whether
kinds matter at all: where they do not, the model has none and is what it is without kinds.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from codemmlu.mcq import conditional_logit
from codemmlu.mcq.conditional_logit import ChoiceTable
from codemmlu.voting import by_kind, rules
from codemmlu.voting.ballots import Array, Ballots, Whole
from codemmlu.voting.model import EnsembleModel, KindFit, VoterFit
from codemmlu.voting.voter_fit import FEWEST, Around, fit_voter

# How many questions the numbers of the whole count for; the strongest pull first.
_PULLS = (32.0, 8.0)
# Kinds matter where the likelihood of held-out questions is higher by this many standard errors.
_CLEARLY = 2.0


def fit_kinds(ballots: Ballots, gold: Whole, whole: EnsembleModel, folds: Whole) -> EnsembleModel:
    """Return the model with fitted numbers by kind, or as it is where kinds do not matter.

    Args:
        ballots: The votes on the fit split, with kinds.
        gold: The right choice of each question, from 0.
        whole: The model that is fitted on all kinds together.
        folds: The fold of each question in cross-validation.
    """
    kinds = [kind for kind, count in Counter(ballots.kinds).items() if count >= FEWEST]
    if whole.strength is None or len(set(ballots.kinds)) < 2 or not kinds:
        return whole
    pooled = _likelihoods(ballots, gold, whole)
    held_out = {}
    for pull in _PULLS:
        held_out[pull] = np.array(pooled)
        for fold in sorted(set(folds.tolist())):
            seen, unseen = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            model = _with_kinds(ballots.rows(seen), gold[seen], whole, pull)
            held_out[pull][unseen] = _likelihoods(ballots.rows(unseen), gold[unseen], model)
    best = max(held_out.values(), key=lambda likelihoods: float(likelihoods.sum()))
    # The model of the whole has seen the questions that are held out here, which speaks for it rather than for kinds.
    if not _is_clear(best - pooled, _CLEARLY):
        return whole
    pull = next(pull for pull, likelihoods in held_out.items() if not _is_clear(best - likelihoods, 1.0))
    return _with_kinds(ballots, gold, whole, pull)


def _is_clear(differences: Array, errors: float) -> bool:
    return bool(differences.mean() > errors * differences.std() / np.sqrt(len(differences)))


def _likelihoods(ballots: Ballots, gold: Whole, model: EnsembleModel) -> Array:
    """Return the log-probability that the pool gives each right choice, shape (questions,)."""
    logs = np.zeros(len(gold))
    for rows, own, fitted in by_kind.parts(ballots, model):
        scores = rules.log_pool(own, fitted)
        top = scores.max(axis=1, keepdims=True)
        shares = scores - top - np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        logs[rows] = shares[np.arange(len(rows)), gold[rows]]
    return logs


def _with_kinds(ballots: Ballots, gold: Whole, whole: EnsembleModel, pull: float) -> EnsembleModel:
    """Return the model with numbers for each kind that has enough questions."""
    counts = Counter(ballots.kinds)
    kinds = np.array(ballots.kinds)
    fits = {}
    for kind in sorted(kind for kind, count in counts.items() if count >= FEWEST):
        rows = np.flatnonzero(kinds == kind)
        fits[kind] = _fit_kind(ballots.rows(rows), gold[rows], whole, pull)
    return whole.model_copy(update={"kinds": fits})


def _fit_kind(ballots: Ballots, gold: Whole, whole: EnsembleModel, pull: float) -> KindFit:
    voters = {}
    for column, name in enumerate(ballots.voters):
        voter = whole.of(name)
        around = Around(voter.temperature, voter.skill, pull, pull)
        own = fit_voter(ballots, column, gold, voter.looks, around)
        voters[name] = own.model_copy(update={"weight": voter.weight})
    weights = _weights(ballots, gold, whole.model_copy(update={"voters": voters}), pull)
    strength = sum(weights.values())
    if not strength:
        return KindFit(voters=dict(whole.voters), strength=whole.strength or 0.0, fitted_on=len(gold))
    return KindFit(voters=_weighed(voters, weights, strength), strength=strength, fitted_on=len(gold))


def _weights(ballots: Ballots, gold: Whole, model: EnsembleModel, pull: float) -> dict[str, float]:
    """Return the factor of each voter's log-probabilities in the pool, drawn to the factor in the whole."""
    whole = max(sum(model.of(name).weight for name in ballots.voters), np.finfo(float).tiny)
    around = np.array([model.of(name).weight for name in ballots.voters]) * (model.strength or 0.0) / whole
    logs = np.where(ballots.choices[:, None, :] & ballots.voting[:, :, None], rules.calibrated(ballots, model), 0.0)
    features = logs.transpose(0, 2, 1)[ballots.choices]
    table = ChoiceTable(features, [int(size) for size in ballots.sizes], gold)
    # The curvature of one question's log-likelihood in a weight is about one half.
    fitted = conditional_logit.fit(table, ridge=pull / 4, signs=False, around=around)
    return dict(zip(ballots.voters, map(float, fitted), strict=True))


def _weighed(voters: Mapping[str, VoterFit], weights: Mapping[str, float], strength: float) -> dict[str, VoterFit]:
    return {name: voter.model_copy(update={"weight": weights[name] / strength}) for name, voter in voters.items()}
