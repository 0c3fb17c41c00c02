"""Fitting: temperatures, weights and thresholds from the fit split, by cross-validation.

The right letters of the fit split come in as a table of their own; no code here can see the right letters of the
questions that are voted on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from codemmlu.mcq import conditional_logit
from codemmlu.mcq.conditional_logit import ChoiceTable
from codemmlu.voting import by_kind, rules
from codemmlu.voting.ballots import Array, Ballots, Bits, Whole
from codemmlu.voting.kind_fitting import fit_kinds
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.voter_fit import FEWEST, fit_voter

_FOLDS = 5
# The penalties that are tried, in units of the log-likelihood of one question.
_LASSOS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_MARGINS = tuple(step / 50 for step in range(50))
_SUBJECT = 40  # a subject with at least this many rows on the fit split has weights of its own


@dataclass(frozen=True)
class FitSettings:
    """The inputs of a fit besides the votes and the right choices.

    Attributes:
        order: The order in which the rule `cascade` takes the voters.
        looks: The voters that look at solved examples.
        agreed: Each voter's skill by agreement.
        margin: The margin of `cascade`; None to fit it.
    """

    order: tuple[str, ...]
    looks: frozenset[str] = frozenset()
    agreed: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None


@dataclass(frozen=True)
class _Folded:
    """The choices of the fit split, with the fold of each question in cross-validation."""

    table: ChoiceTable
    folds: Whole

    def part(self, chosen: Bits) -> ChoiceTable:
        """Return the choices of some of the questions."""
        rows = np.repeat(chosen, self.table.sizes)
        sizes = [size for size, take in zip(self.table.sizes, chosen, strict=True) if take]
        return ChoiceTable(self.table.features[rows], sizes, np.asarray(self.table.right)[chosen])


def fit(ballots: Ballots, right: Sequence[int], settings: FitSettings) -> EnsembleModel:
    """Fit an ensemble model, and measure each rule on rows that the model was not fitted on.

    Args:
        ballots: The votes on the fit split.
        right: The right choice of each row, from 0.
        settings: The other inputs.

    Returns:
        The model fitted on all rows, with each rule's accuracy by cross-validation.
    """
    voted = np.flatnonzero(ballots.voting.any(axis=1))
    # Rows with an abstention and without a vote teach nothing, and count as not right, as in every accuracy.
    silent = int((~ballots.voting.any(axis=1) & np.isin(ballots.status, (0, 1)).any(axis=1)).sum())
    ballots, gold = ballots.rows(voted), np.asarray(right, dtype=np.int64)[voted]
    learn = partial(_fit, settings=settings)
    fold = _folds(ballots.task_ids)
    hits: dict[str, int] = dict.fromkeys(rules.RULES, 0)
    scored = 0
    for number in range(_FOLDS):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(seen) or not len(unseen):
            continue
        scored += len(unseen)
        fitted = learn(ballots.rows(seen), gold[seen])
        for rule in rules.RULES:
            hits[rule] += int((by_kind.decide(rule, ballots.rows(unseen), fitted).letters == gold[unseen]).sum())
    share = {rule: hit / (scored + silent) for rule, hit in hits.items()} if scored else {}
    return learn(ballots, gold).model_copy(update={"cross_validated": share})


def _fit(ballots: Ballots, gold: Whole, settings: FitSettings) -> EnsembleModel:
    alone = {
        name: fit_voter(ballots, column, gold, name in settings.looks) for column, name in enumerate(ballots.voters)
    }
    known = ballots.similarity[np.isfinite(ballots.similarity)]
    counted = {s: ballots.subjects.count(s) for s in set(ballots.subjects) if s is not None}
    fitted = EnsembleModel(
        voters=alone,
        agreed=dict(settings.agreed),
        order=settings.order,
        subjects=tuple(sorted(s for s, count in counted.items() if count >= _SUBJECT)),
        similarity=float(known.mean()) if len(known) else 0.5,
        fitted_on=len(gold),
    )
    # A voter with too few votes takes its skill from agreement, and its weight from the other voters.
    few = {name for column, name in enumerate(ballots.voters) if ballots.voting[:, column].sum() < FEWEST}
    voters = {
        name: voter.model_copy(update={"skill": settings.agreed.get(name, 0.5)}) if name in few else voter
        for name, voter in alone.items()
    }
    fitted = fitted.model_copy(update={"voters": voters})
    fitted = _weigh(ballots, gold, fitted, few)
    margin = _margin(ballots, gold, fitted) if settings.margin is None else settings.margin
    fitted = fitted.model_copy(update={"margin": margin})
    fitted = fitted.model_copy(update={"stacked": _stack(ballots, gold, fitted)})
    return fit_kinds(ballots, gold, fitted, _folds(ballots.task_ids)) if ballots.kinds else fitted


def _weigh(ballots: Ballots, gold: Whole, fitted: EnsembleModel, few: set[str]) -> EnsembleModel:
    """Fit non-negative weights of the pool, with a lasso penalty that drops voters who add too little.

    The penalty is the largest one that is not clearly worse than the best one, by cross-validation. The voters that
    keep a weight under this penalty are fitted again without it.

    Returns:
        The model with weights that sum to one over the fitted voters, and with their strength.
    """
    usable = [column for column, name in enumerate(ballots.voters) if name not in few]
    if not usable or not len(gold):
        return fitted
    logs = np.where(ballots.choices[:, None, :] & ballots.voting[:, :, None], rules.calibrated(ballots, fitted), 0.0)
    folded = _folded(ballots, logs[:, usable].transpose(0, 2, 1), gold)
    table, lasso = folded.table, _penalty(folded, _LASSOS, signs=False)
    weights = conditional_logit.fit(table, lasso=lasso * len(gold), signs=False)
    kept = weights > 1e-6
    if not kept.any():  # no voter is worth the penalty: keep the best voter alone
        skills = [fitted.of(ballots.voters[column]).skill for column in usable]
        kept[int(np.argmax(skills))] = True
    weights = np.zeros(len(usable))
    weights[kept] = conditional_logit.fit(replace(table, features=table.features[:, kept]), ridge=0.5, signs=False)
    strength = float(weights.sum())
    if not strength:  # no voter is informative: all weigh the same
        weights, strength = np.full(len(usable), 1 / len(usable)), 1.0
    shares = {ballots.voters[column]: float(w) / strength for column, w in zip(usable, weights, strict=True)}
    shares |= dict.fromkeys(few, float(np.mean([w for w in shares.values() if w > 0])))
    voters = {name: voter.model_copy(update={"weight": shares[name]}) for name, voter in fitted.voters.items()}
    return fitted.model_copy(update={"voters": voters, "strength": strength})


def _stack(ballots: Ballots, gold: Whole, fitted: EnsembleModel) -> dict[str, float] | None:
    if not len(gold):
        return None
    folded = _folded(ballots, rules.features(ballots, fitted), gold)
    ridge = _penalty(folded, _RIDGES, signs=True)
    weights = conditional_logit.fit(folded.table, ridge=ridge * len(gold))
    return dict(zip(rules.feature_names(ballots, fitted), map(float, weights), strict=True))


def _margin(ballots: Ballots, gold: Whole, fitted: EnsembleModel) -> float:
    """Return the cascade's margin with the most right verdicts; of equals the smallest, which costs least."""

    def is_right(order: tuple[str, ...]) -> Bits:
        """Return where the first of these voters is right, or the pool where none of them votes."""
        ends = fitted.model_copy(update={"order": order, "margin": 0.0})
        hits: Bits = rules.decide("cascade", ballots, ends).letters == gold
        return hits

    if not len(gold):
        return min(_MARGINS)
    columns = [ballots.voters.index(name) for name in fitted.order]
    each = np.stack([*(is_right((name,)) for name in fitted.order), is_right(())])
    clear = rules.margins(ballots, rules.calibrated(ballots, fitted))[:, columns].T

    def right(margin: float) -> int:
        ends = np.vstack([clear >= margin, np.ones((1, len(gold)), dtype=bool)]).argmax(axis=0)
        return int(each[ends, np.arange(len(gold))].sum())

    # A smaller margin asks fewer voters.
    return max(_MARGINS, key=lambda margin: (right(margin), -margin))


def _penalty(folded: _Folded, tried: Sequence[float], signs: bool) -> float:
    """Return the largest penalty with a held-out likelihood within one standard error of the best."""
    fold = folded.folds
    held_out: list[Array] = []
    for penalty in tried:
        likelihoods = np.zeros(len(fold))
        for number in range(_FOLDS):
            seen, unseen = fold != number, fold == number
            if not seen.any() or not unseen.any():
                continue
            by = {"ridge": penalty * seen.sum()} if signs else {"lasso": penalty * seen.sum()}
            weights = conditional_logit.fit(folded.part(seen), signs=signs, **by)
            likelihoods[unseen] = conditional_logit.log_likelihoods(folded.part(unseen), weights)
        held_out.append(likelihoods)
    best = max(held_out, key=lambda likelihoods: float(likelihoods.sum()))
    for penalty, likelihoods in sorted(zip(tried, held_out, strict=True), key=lambda pair: -pair[0]):
        behind = best - likelihoods
        if behind.mean() <= behind.std() / np.sqrt(max(1, len(behind))):
            return penalty
    return tried[0]


def _folded(ballots: Ballots, features: Array, gold: Whole) -> _Folded:
    """Return the features of the choices that exist, as one table with folds."""
    table = ChoiceTable(features[ballots.choices], [int(size) for size in ballots.sizes], gold)
    return _Folded(table, _folds(ballots.task_ids))


def _folds(task_ids: Sequence[str]) -> Whole:
    """Return each question's fold, by a hash of its task_id: the same in whatever order questions come."""
    folds = [int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:4]) % _FOLDS for name in task_ids]
    return np.array(folds, dtype=np.int64)
