"""Fitting: temperatures, weights and thresholds from the fit split, by cross-validation.

The fit split's right letters come in as a table of their own; nothing here can see those of the questions that are
voted on.
"""

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from codemmlu.mcq import conditional_logit
from codemmlu.voting import rules
from codemmlu.voting.ballots import Array, Ballots, Bits, Whole
from codemmlu.voting.model import EnsembleModel, VoterFit

_FOLDS = 5
# Penalties that are tried, in log-likelihood of one question.
_LASSOS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
_MARGINS = tuple(step / 50 for step in range(50))
# A voter of fewer solved examples is not fitted: it weighs what the others weigh on average.
_FEWEST = 20
# Guesses of a voter that nothing is known of are added to what was seen.
_GUESSES = 8.0
_SUBJECT = 40  # rows of the fit split from which on a subject has weights of its own


def fit(
    some: Ballots,
    right: Sequence[int],
    looks: frozenset[str],
    order: Sequence[str],
    agreed: Mapping[str, float],
    margin: float | None,
) -> EnsembleModel:
    """Everything that is fitted, and how each rule does on rows that it was not fitted on.

    right: the right choice of each question, from 0; looks: voters that look at solved examples
    order, margin: of the cascade, None: the margin is fitted; agreed: skills by agreement
    """
    told = np.flatnonzero(some.voting.any(axis=1))
    # On which somebody was asked and nobody answered: nothing to learn from, and not right, as in every accuracy.
    silent = int((~some.voting.any(axis=1) & np.isin(some.status, (0, 1)).any(axis=1)).sum())
    some, gold = some.rows(told), np.asarray(right, dtype=np.int64)[told]
    learn = partial(_fit, looks=looks, order=tuple(order), agreed=dict(agreed), margin=margin)
    fold = _folds(some.task_ids)
    hits: dict[str, int] = dict.fromkeys(rules.RULES, 0)
    scored = 0
    for number in range(_FOLDS):
        seen, unseen = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        if not len(seen) or not len(unseen):
            continue
        scored += len(unseen)
        known = learn(some.rows(seen), gold[seen])
        for rule in rules.RULES:
            hits[rule] += int((rules.decide(rule, some.rows(unseen), known).letters == gold[unseen]).sum())
    share = {rule: hit / (scored + silent) for rule, hit in hits.items()} if scored else {}
    return learn(some, gold).model_copy(update={"cross_validated": share})


def _fit(
    some: Ballots,
    gold: Whole,
    looks: frozenset[str],
    order: tuple[str, ...],
    agreed: dict[str, float],
    margin: float | None,
) -> EnsembleModel:
    alone = {name: _alone(some, column, gold, name in looks) for column, name in enumerate(some.voters)}
    known = some.similarity[np.isfinite(some.similarity)]
    counted = {s: some.subjects.count(s) for s in set(some.subjects) if s is not None}
    fitted = EnsembleModel(
        voters=alone,
        agreed=agreed,
        order=order,
        subjects=tuple(sorted(s for s, count in counted.items() if count >= _SUBJECT)),
        similarity=float(known.mean()) if len(known) else 0.5,
        fitted_on=len(gold),
    )
    # Those of which too little is known: agreement says what skill they have, the others what they weigh.
    few = {name for column, name in enumerate(some.voters) if some.voting[:, column].sum() < _FEWEST}
    voters = {n: one.model_copy(update={"skill": agreed.get(n, 0.5)}) if n in few else one for n, one in alone.items()}
    fitted = fitted.model_copy(update={"voters": voters})
    fitted = _weigh(some, gold, fitted, few)
    fitted = fitted.model_copy(update={"margin": _margin(some, gold, fitted) if margin is None else margin})
    return fitted.model_copy(update={"stacked": _stack(some, gold, fitted)})


def _alone(some: Ballots, column: int, gold: Whole, looks: bool) -> VoterFit:
    """One voter by itself: how often it is right, what that says of its skill, and how sure it may be."""
    from scipy import optimize  # slow to import, and only fitting needs it

    asked = np.isin(some.status[:, column], (0, 1))
    voted = some.voting[:, column]
    right = int((some.letters[voted, column] == gold[voted]).sum())
    chance = float((1 / some.sizes[voted]).sum())
    count = int(voted.sum())
    # In how many of the questions that it answered it did better than by guessing, of how many it could.
    skill = max(0.0, (right - chance) / (count - chance + _GUESSES)) if count else 0.0
    told = voted & ~some.sharp[:, column]
    temperature = 1.0
    if told.sum() >= _FEWEST:
        logs = np.where(some.choices[told], np.log(np.maximum(some.probabilities[told, column], 1e-6)), -np.inf)

        def loss(power: float) -> float:
            scaled = logs / np.exp(power)
            top = scaled.max(axis=1)
            total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
            return float((total - scaled[np.arange(len(scaled)), gold[told]]).sum() + 0.5 * (power / 2) ** 2)

        temperature = float(np.exp(optimize.minimize_scalar(loss, bounds=(-3, 5), method="bounded").x))
    return VoterFit(
        temperature=temperature, weight=1.0, skill=min(skill, 0.98), right=right, asked=int(asked.sum()), looks=looks
    )


def _weigh(some: Ballots, gold: Whole, fitted: EnsembleModel, few: set[str]) -> EnsembleModel:
    """The weights of the pool: none is negative, and what a voter adds has to be worth its penalty.

    The penalty is the largest that is not clearly worse than the best, over folds; what has weight then is fitted
    again without it.
    """
    usable = [column for column, name in enumerate(some.voters) if name not in few]
    if not usable or not len(gold):
        return fitted
    logs = np.where(some.choices[:, None, :] & some.voting[:, :, None], rules.calibrated(some, fitted), 0.0)
    table, sizes = _table(some, logs[:, usable].transpose(0, 2, 1))
    lasso = _penalty(some, table, sizes, gold, _LASSOS, signs=False)
    weights = conditional_logit.fit(table, sizes, gold, lasso=lasso * len(gold), signs=False)
    kept = weights > 1e-6
    if not kept.any():  # nothing is worth a penalty: the best one alone
        hits = [fitted.of(some.voters[column]).skill for column in usable]
        kept[int(np.argmax(hits))] = True
    weights = np.zeros(len(usable))
    weights[kept] = conditional_logit.fit(table[:, kept], sizes, gold, ridge=0.5, signs=False)
    strength = float(weights.sum())
    if not strength:  # none of them tells anything: they weigh the same
        weights, strength = np.full(len(usable), 1 / len(usable)), 1.0
    shares = {some.voters[column]: float(w) / strength for column, w in zip(usable, weights, strict=True)}
    shares |= dict.fromkeys(few, float(np.mean([w for w in shares.values() if w > 0])))
    voters = {name: one.model_copy(update={"weight": shares[name]}) for name, one in fitted.voters.items()}
    return fitted.model_copy(update={"voters": voters, "strength": strength})


def _stack(some: Ballots, gold: Whole, fitted: EnsembleModel) -> dict[str, float] | None:
    if not len(gold):
        return None
    table, sizes = _table(some, rules.features(some, fitted))
    ridge = _penalty(some, table, sizes, gold, _RIDGES, signs=True)
    weights = conditional_logit.fit(table, sizes, gold, ridge=ridge * len(gold))
    return dict(zip(rules.feature_names(some, fitted), map(float, weights), strict=True))


def _margin(some: Ballots, gold: Whole, fitted: EnsembleModel) -> float:
    """The cascade's margin under which most is right; of equals the smallest, which asks the fewest."""

    def is_right(order: tuple[str, ...]) -> Bits:
        """Tell on which questions the first of these voters is right, or the pool where none of them votes."""
        ends = fitted.model_copy(update={"order": order, "margin": 0.0})
        found: Bits = rules.decide("cascade", some, ends).letters == gold
        return found

    if not len(gold):
        return min(_MARGINS)
    columns = [some.voters.index(name) for name in fitted.order]
    each = np.stack([*(is_right((name,)) for name in fitted.order), is_right(())])
    clear = rules.margins(some, rules.calibrated(some, fitted))[:, columns].T

    def right(margin: float) -> int:
        ends = np.vstack([clear >= margin, np.ones((1, len(gold)), dtype=bool)]).argmax(axis=0)
        return int(each[ends, np.arange(len(gold))].sum())

    return max(_MARGINS, key=lambda margin: (right(margin), -margin))


def _penalty(
    some: Ballots, table: Array, sizes: Sequence[int], gold: Whole, tried: Sequence[float], signs: bool
) -> float:
    """The largest penalty whose likelihood on rows not fitted on is within one standard error of the best one's."""
    fold = _folds(some.task_ids)
    starts = np.repeat(fold, sizes)
    found: list[Array] = []
    for penalty in tried:
        told = np.zeros(len(gold))
        for number in range(_FOLDS):
            seen, unseen = fold != number, fold == number
            if not seen.any() or not unseen.any():
                continue
            by = {"ridge": penalty * seen.sum()} if signs else {"lasso": penalty * seen.sum()}
            weights = conditional_logit.fit(table[starts != number], _of(sizes, seen), gold[seen], signs=signs, **by)
            rows = table[starts == number]
            told[unseen] = conditional_logit.log_likelihoods(rows, weights, _of(sizes, unseen), gold[unseen])
        found.append(told)
    best = max(found, key=lambda told: float(told.sum()))
    for penalty, told in sorted(zip(tried, found, strict=True), key=lambda pair: -pair[0]):
        behind = best - told
        if behind.mean() <= behind.std() / np.sqrt(max(1, len(behind))):
            return penalty
    return tried[0]


def _table(some: Ballots, features: Array) -> tuple[Array, list[int]]:
    """Features of choices, without the places where there is none: (choices of all questions, features)."""
    return features[some.choices], [int(size) for size in some.sizes]


def _of(sizes: Sequence[int], chosen: Bits) -> list[int]:
    return [size for size, take in zip(sizes, chosen, strict=True) if take]


def _folds(task_ids: Sequence[str]) -> Whole:
    """Each question's fold, by a hash of its id: the same in whatever order they come."""
    found = [int.from_bytes(hashlib.sha256(name.encode(errors="replace")).digest()[:4]) % _FOLDS for name in task_ids]
    return np.array(found, dtype=np.int64)
