"""Rules: ballots become verdicts. Abstentions and failures never vote.

Every rule gives each choice a score, and the highest score wins. Of equal scores, the choice with the higher
probability in the logarithmic pool wins, then the first choice. Where one voter alone votes, the verdict is the answer
of that voter.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codemmlu.voting.ballots import Array, Ballots, Bits, Whole
from codemmlu.voting.model import EnsembleModel

# A voter that is certain and wrong must not silence all others.
_FLOOR = 1e-6
# Far above the change from adding up in another order, far below a difference that separates two choices.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """The verdicts of one rule.

    Attributes:
        letters: The choice of each question, from 0; -1 where no voter votes.
        probabilities: (questions, choices); zero where there is no choice.
    """

    letters: Whole
    probabilities: Array


def calibrated(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the voters' log-probabilities, each divided by the voter's temperature.

    A letter without probabilities becomes the distribution of a voter of that skill: 1/k + skill (1 - 1/k) for the
    letter, the rest shared by the other choices.

    Returns:
        (questions, voters, choices): -inf where there is no choice, uniform where a voter does not vote.
    """
    sizes = ballots.sizes[:, None, None].astype(np.float64)
    skill = np.array([fitted.of(name).skill for name in ballots.voters])[None, :, None]
    named = np.arange(ballots.choices.shape[1]) == ballots.letters[:, :, None]
    right = 1 / sizes + np.clip(skill, 0.0, 0.98) * (1 - 1 / sizes)
    letter_alone = np.where(named, right, (1 - right) / np.maximum(sizes - 1, 1))
    odds = np.where(ballots.sharp[:, :, None], letter_alone, ballots.probabilities)
    odds = np.where(ballots.voting[:, :, None], odds, 1.0)
    logs = np.log(np.maximum(odds, _FLOOR))
    temperatures = np.array([fitted.of(name).temperature for name in ballots.voters])[None, :, None]
    logs = np.where(ballots.sharp[:, :, None], logs, logs / temperatures)
    return _log_softmax(np.where(ballots.choices[:, None, :], logs, -np.inf))


def log_pool(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the weighted mean of calibrated log-probabilities (Genest and Zidek 1986).

    The mean is scaled to the sharpness that the fit split showed. With fitted weights, abstaining voters contribute
    zero log-probability, as during fitting, so fewer votes give a flatter distribution.

    Returns:
        (questions, choices): -inf where there is no choice.
    """
    own = np.array([fitted.of(name).weight for name in ballots.voters])[None, :]
    weights = own * ballots.voting
    mattering = weights.sum(axis=1, keepdims=True) > 0
    # Where only voters without weight vote, they weigh the same.
    weights = np.where(mattering, weights, ballots.voting)
    logs = np.where(ballots.choices[:, None, :], calibrated(ballots, fitted), 0.0)
    sums = np.einsum("qv,qvc->qc", weights, logs)
    voted = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    if fitted.strength is None:
        return np.where(ballots.choices, sums / voted, -np.inf)
    pooled = np.where(mattering, sums * fitted.strength / max(float(own.sum()), np.finfo(float).tiny), sums / voted)
    return np.where(ballots.choices, pooled, -np.inf)


def majority(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return how many voters name each choice."""
    return _count(ballots, np.ones(ballots.voting.shape))


def weighted(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the votes for each choice, weighted by validated accuracy (Nitzan and Paroush 1982).

    With accuracy `a` and `k` choices the weight of a voter is log((k - 1) a / (1 - a)), and zero for a voter that is no
    better than chance.

    Returns:
        (questions, choices): -inf where there is no choice.
    """
    sizes = ballots.sizes[:, None].astype(np.float64)
    skill = np.clip([fitted.of(name).skill for name in ballots.voters], 0.0, 0.98)[None, :]
    right = 1 / sizes + skill * (1 - 1 / sizes)
    return _count(ballots, np.log(np.maximum((sizes - 1) * right / (1 - right), 1.0)))


def borda(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return Borda points: each voter gives one per less likely choice, half a point per equal choice."""
    preferences = _preferences(ballots)
    points = np.zeros(preferences.shape)
    for other in range(ballots.choices.shape[1]):  # in a loop, as all pairs of 26 choices at once take gigabytes
        higher = preferences - preferences[:, :, [other]]
        rival = ballots.choices[:, None, [other]] & (np.arange(ballots.choices.shape[1]) != other)
        points += ((higher > _ROUNDING) + 0.5 * (np.abs(higher) <= _ROUNDING)) * rival
    return np.where(ballots.choices, (points * ballots.voting[:, :, None]).sum(axis=1), -np.inf)


def instant_runoff(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return scores by instant runoff: each round strikes out the choice that fewest voters have on top.

    Of equals, the choice with the lower Borda count is struck out, then the later one. The score of a choice is the
    share of votes in its last round plus the number of that round. The choice that is left alone wins in one round
    more, however many rounds other questions take.

    Returns:
        (questions, choices): -inf where there is no choice.
    """
    preferences, points = _preferences(ballots), borda(ballots, fitted)
    alive, scores = ballots.choices.copy(), np.where(ballots.choices, 0.0, -np.inf)
    rows, before = np.arange(len(scores)), np.ones(len(scores), dtype=bool)
    for number in range(ballots.choices.shape[1]):
        left = np.where(alive[:, None, :], preferences, -np.inf)
        top = (left >= left.max(axis=2, keepdims=True) - _ROUNDING).argmax(axis=2)  # the first of equal choices
        # A vote without probabilities ranks no other choice once its letter is struck out.
        counts = ballots.voting & (left.max(axis=2) > 0)
        votes = ((np.arange(alive.shape[1]) == top[:, :, None]) & counts[:, :, None]).sum(axis=1)
        scores = np.where(alive & before[:, None], number + votes / (counts.sum(axis=1) + 1.0)[:, None], scores)
        standing = votes + points / (points.max(axis=1, where=ballots.choices, initial=0.0) + 1.0)[:, None]
        standing = np.where(alive, standing - _ROUNDING * np.arange(alive.shape[1]), np.inf)
        several = alive.sum(axis=1) > 1
        alive[rows[several], standing.argmin(axis=1)[several]] = False
        before = several
    return scores


def dawid_skene(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the votes for each choice, weighted by skill from agreement alone (Dawid and Skene 1979).

    Each voter has one skill: how far it agrees with the choices that all voters take for right, without labels.

    Returns:
        (questions, choices): -inf where there is no choice.
    """
    sizes = ballots.sizes[:, None].astype(np.float64)
    skill = np.clip([fitted.agreed.get(name, 0.5) for name in ballots.voters], 0.0, 0.98)[None, :]
    right = 1 / sizes + skill * (1 - 1 / sizes)
    return _count(ballots, np.log(np.maximum((sizes - 1) * right / (1 - right), 1.0)))


def cascade(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the scores of the first voter in order with a clear calibrated margin, else of the pool."""
    logs = calibrated(ballots, fitted)
    clear = margins(ballots, logs) >= fitted.margin
    scores = log_pool(ballots, fitted)
    undecided = np.ones(len(scores), dtype=bool)
    for name in fitted.order:
        column = ballots.voters.index(name)
        decided = undecided & clear[:, column]
        scores[decided] = logs[decided, column]
        undecided &= ~decided
    return scores


def margins(ballots: Ballots, logs: Array) -> Array:
    """Return by how much each voter prefers the likeliest choice to the second, (questions, voters).

    Args:
        ballots: The votes.
        logs: The result of `calibrated`.

    Returns:
        Differences of probabilities; NaN where a voter does not vote.
    """
    ordered = np.sort(np.exp(logs), axis=2)
    return np.where(ballots.voting, ordered[:, :, -1] - (ordered[:, :, -2] if logs.shape[2] > 1 else 0), np.nan)


def stacked(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the scores of a conditional logit over the votes of all voters; see `features`."""
    if fitted.stacked is None:  # there were no examples to fit the weights on
        return log_pool(ballots, fitted)
    table = features(ballots, fitted)
    scores = table @ np.array([fitted.stacked.get(name, 0.0) for name in feature_names(ballots, fitted)])
    return np.where(ballots.choices, scores, -np.inf)


def feature_names(ballots: Ballots, fitted: EnsembleModel) -> list[str]:
    """Return the names of the features of `stacked`."""
    plain = [f"{name}: log-probability" for name in ballots.voters]
    near = [f"{name}: log-probability x similarity" for name in ballots.voters if fitted.of(name).looks]
    subjects = [f"{name}: log-probability in {subject}" for subject in fitted.subjects for name in ballots.voters]
    return [*plain, *near, *subjects, "share of the votes", "Borda points"]


def features(ballots: Ballots, fitted: EnsembleModel) -> Array:
    """Return the features that `stacked` weighs.

    Returns:
        (questions, choices, features): each voter's centred log-probability, alone, times the similarity of the nearest
        solved example, and by subject; then the share of the votes and the mean Borda points.
    """
    logs = np.where(ballots.choices[:, None, :] & ballots.voting[:, :, None], calibrated(ballots, fitted), 0.0)
    count = np.maximum(ballots.sizes[:, None, None], 1)
    logs = np.where(ballots.choices[:, None, :], logs - logs.sum(axis=2, keepdims=True) / count, 0.0).transpose(0, 2, 1)
    near = np.nan_to_num(ballots.similarity, nan=fitted.similarity)[:, None, None] - fitted.similarity
    looks = [column for column, name in enumerate(ballots.voters) if fitted.of(name).looks]
    blocks = [logs, logs[:, :, looks] * near]
    for subject in fitted.subjects:
        blocks.append(logs * np.array([own == subject for own in ballots.subjects])[:, None, None])
    votes = np.maximum(ballots.voting.sum(axis=1), 1)[:, None]
    agreed = [np.where(ballots.choices, rule(ballots, fitted), 0.0) / votes for rule in (majority, borda)]
    return np.concatenate([*blocks, *(scores[:, :, None] for scores in agreed)], axis=2)


Rule = Callable[[Ballots, EnsembleModel], Array]
RULES: dict[str, Rule] = {
    "log_pool": log_pool,
    "majority": majority,
    "weighted": weighted,
    "borda": borda,
    "instant_runoff": instant_runoff,
    "dawid_skene": dawid_skene,
    "cascade": cascade,
    "stacked": stacked,
}
# Rules whose scores are log-probabilities up to a constant; other rules' scores become probabilities as shares.
_LOGARITHMS = ("log_pool", "weighted", "dawid_skene", "cascade", "stacked")


def decide(rule: str, ballots: Ballots, fitted: EnsembleModel) -> Decision:
    """Return the verdicts of one rule on all questions."""
    if not ballots.voters or not ballots.choices.size:
        return Decision(np.full(len(ballots.task_ids), -1), np.zeros(ballots.choices.shape))
    scores = RULES[rule](ballots, fitted)
    pool = log_pool(ballots, fitted)
    best = _highest(scores, ballots.choices)
    best = _highest(np.where(best, pool, -np.inf), best)
    chosen = best.argmax(axis=1)
    if rule in _LOGARITHMS:
        shares = np.exp(_log_softmax(scores))
    else:
        shares = np.where(ballots.choices, scores, 0.0)
        shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
    alone = np.asarray(ballots.voting.sum(axis=1) == 1)
    column = ballots.voting.argmax(axis=1)
    rows = np.arange(len(column))
    # A single vote keeps its probabilities, zeros included, where its voter has no fitted temperature.
    cooled = np.array([fitted.of(name).temperature != 1 for name in ballots.voters])[column]
    own = np.where(
        (ballots.sharp[rows, column] | cooled)[:, None],
        np.exp(calibrated(ballots, fitted)[rows, column]),
        ballots.probabilities[rows, column],
    )
    silent = np.asarray(ballots.voting.sum(axis=1) == 0)
    chosen = np.where(alone, ballots.letters[rows, column], np.where(silent, -1, chosen))
    shares = np.where(alone[:, None], own, np.where(silent[:, None], 0.0, shares))
    return Decision(chosen, np.where(ballots.choices, shares, 0.0))


def _count(ballots: Ballots, weights: Array) -> Array:
    named = np.arange(ballots.choices.shape[1]) == ballots.letters[:, :, None]
    return np.where(ballots.choices, (named * (weights * ballots.voting)[:, :, None]).sum(axis=1), -np.inf)


def _preferences(ballots: Ballots) -> Array:
    """Return each voter's preferences as numbers: the probabilities, or one for a letter alone."""
    named = np.arange(ballots.choices.shape[1]) == ballots.letters[:, :, None]
    return np.where(ballots.sharp[:, :, None], named, ballots.probabilities)


def _highest(scores: Array, among: Bits) -> Bits:
    """Return which choices have the highest score, up to rounding."""
    top = scores.max(axis=1, where=among, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        highest: Bits = among & (scores >= (top - _ROUNDING * np.maximum(1.0, np.abs(top)))[:, None])
    return highest


def _log_softmax(logits: Array) -> Array:
    top = logits.max(axis=-1, keepdims=True)
    shifted = logits - np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
