"""Rules: ballots become verdicts. Abstentions and failures never vote.

Every rule gives each choice a score; the highest wins, of equal scores the choice that the pool of probabilities has
higher, of those equal, too, the first one. Where one voter alone votes, the verdict is its own answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codemmlu.voting.ballots import Array, Ballots, Bits, Whole
from codemmlu.voting.model import EnsembleModel

# A voter that is certain and wrong must not silence all others.
_FLOOR = 1e-6
# Far above what adding up in another order changes, far below what tells two choices apart.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Decision:
    """One rule's verdicts: the choice of each question, from 0 (-1: nobody voted), and probabilities (questions,
    choices), zero where there is no choice."""

    letters: Whole
    probabilities: Array


def calibrated(some: Ballots, fitted: EnsembleModel) -> Array:
    """Log-probabilities with each voter's temperature taken out, (questions, voters, choices); -inf: no choice.

    A letter without probabilities becomes what a voter of its skill knows: 1/k + skill (1 - 1/k) for its letter, the
    rest shared by the others. Uniform where a voter does not vote.
    """
    sizes = some.sizes[:, None, None].astype(np.float64)
    skill = np.array([fitted.of(name).skill for name in some.voters])[None, :, None]
    named = np.arange(some.choices.shape[1]) == some.letters[:, :, None]
    sure = 1 / sizes + np.clip(skill, 0.0, 0.98) * (1 - 1 / sizes)
    letter_alone = np.where(named, sure, (1 - sure) / np.maximum(sizes - 1, 1))
    said = np.where(some.sharp[:, :, None], letter_alone, some.probabilities)
    said = np.where(some.voting[:, :, None], said, 1.0)
    logs = np.log(np.maximum(said, _FLOOR))
    temperatures = np.array([fitted.of(name).temperature for name in some.voters])[None, :, None]
    logs = np.where(some.sharp[:, :, None], logs, logs / temperatures)
    return _log_softmax(np.where(some.choices[:, None, :], logs, -np.inf))


def log_pool(some: Ballots, fitted: EnsembleModel) -> Array:
    """The weighted mean of calibrated log-probabilities (Genest and Zidek 1986), as sharp as the fit split had it.

    Weights that were fitted were so on a sum to which a voter that does not vote adds nothing: where few of them vote,
    the pool is less sure.
    """
    own = np.array([fitted.of(name).weight for name in some.voters])[None, :]
    weights = own * some.voting
    mattering = weights.sum(axis=1, keepdims=True) > 0
    # Where only voters without weight have voted, they are all there is.
    weights = np.where(mattering, weights, some.voting)
    logs = np.where(some.choices[:, None, :], calibrated(some, fitted), 0.0)
    told = np.einsum("qv,qvc->qc", weights, logs)
    voted = np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    if fitted.strength is None:
        return np.where(some.choices, told / voted, -np.inf)
    pooled = np.where(mattering, told * fitted.strength / max(float(own.sum()), np.finfo(float).tiny), told / voted)
    return np.where(some.choices, pooled, -np.inf)


def majority(some: Ballots, fitted: EnsembleModel) -> Array:
    """How many voters name each choice."""
    return _count(some, np.ones(some.voting.shape))


def weighted(some: Ballots, fitted: EnsembleModel) -> Array:
    """As majority, each voter by the log-odds of its validated accuracy (Nitzan and Paroush 1982), for k choices:
    log((k - 1) a / (1 - a)). A voter no better than chance weighs nothing."""
    sizes = some.sizes[:, None].astype(np.float64)
    skill = np.clip([fitted.of(name).skill for name in some.voters], 0.0, 0.98)[None, :]
    right = 1 / sizes + skill * (1 - 1 / sizes)
    return _count(some, np.log(np.maximum((sizes - 1) * right / (1 - right), 1.0)))


def borda(some: Ballots, fitted: EnsembleModel) -> Array:
    """Points by rank: each voter gives a choice one for every choice that it finds less likely, half for each equal."""
    said = _preferences(some)
    points = np.zeros(said.shape)
    for other in range(some.choices.shape[1]):  # one after the other: all pairs of 26 choices at once take gigabytes
        higher = said - said[:, :, [other]]
        rival = some.choices[:, None, [other]] & (np.arange(some.choices.shape[1]) != other)
        points += ((higher > _ROUNDING) + 0.5 * (np.abs(higher) <= _ROUNDING)) * rival
    return np.where(some.choices, (points * some.voting[:, :, None]).sum(axis=1), -np.inf)


def instant_runoff(some: Ballots, fitted: EnsembleModel) -> Array:
    """Round after round the choice that fewest voters have on top is struck out, of equals the one with the lower Borda
    count, then the later one. Score: the share of votes in a choice's last round, plus that round's number; who is left
    alone wins in one round more, however many other questions take."""
    said, points = _preferences(some), borda(some, fitted)
    alive, scores = some.choices.copy(), np.where(some.choices, 0.0, -np.inf)
    rows, before = np.arange(len(scores)), np.ones(len(scores), dtype=bool)
    for number in range(some.choices.shape[1]):
        left = np.where(alive[:, None, :], said, -np.inf)
        top = (left >= left.max(axis=2, keepdims=True) - _ROUNDING).argmax(axis=2)  # of equal ones the first
        # A letter alone has nothing to say once it is struck out.
        counts = some.voting & (left.max(axis=2) > 0)
        votes = ((np.arange(alive.shape[1]) == top[:, :, None]) & counts[:, :, None]).sum(axis=1)
        scores = np.where(alive & before[:, None], number + votes / (counts.sum(axis=1) + 1.0)[:, None], scores)
        standing = votes + points / (points.max(axis=1, where=some.choices, initial=0.0) + 1.0)[:, None]
        standing = np.where(alive, standing - _ROUNDING * np.arange(alive.shape[1]), np.inf)
        several = alive.sum(axis=1) > 1
        alive[rows[several], standing.argmin(axis=1)[several]] = False
        before = several
    return scores


def dawid_skene(some: Ballots, fitted: EnsembleModel) -> Array:
    """Letters weighed by how far each voter agrees with what all of them take for right, without any label (Dawid and
    Skene 1979, one skill per voter)."""
    sizes = some.sizes[:, None].astype(np.float64)
    skill = np.clip([fitted.agreed.get(name, 0.5) for name in some.voters], 0.0, 0.98)[None, :]
    right = 1 / sizes + skill * (1 - 1 / sizes)
    return _count(some, np.log(np.maximum((sizes - 1) * right / (1 - right), 1.0)))


def cascade(some: Ballots, fitted: EnsembleModel) -> Array:
    """The first voter in turn whose calibrated margin is clear; the pool of all where none is."""
    logs = calibrated(some, fitted)
    clear = margins(some, logs) >= fitted.margin
    scores = log_pool(some, fitted)
    undecided = np.ones(len(scores), dtype=bool)
    for name in fitted.order:
        column = some.voters.index(name)
        now = undecided & clear[:, column]
        scores[now] = logs[now, column]
        undecided &= ~now
    return scores


def margins(some: Ballots, logs: Array) -> Array:
    """Return by how much each voter prefers one choice to all others, (questions, voters); NaN: it does not vote.

    logs: of `calibrated`
    """
    ordered = np.sort(np.exp(logs), axis=2)
    return np.where(some.voting, ordered[:, :, -1] - (ordered[:, :, -2] if logs.shape[2] > 1 else 0), np.nan)


def stacked(some: Ballots, fitted: EnsembleModel) -> Array:
    """A conditional logit over what all voters say: see `features`."""
    if fitted.stacked is None:  # nothing was there to fit it on
        return log_pool(some, fitted)
    table = features(some, fitted)
    scores = table @ np.array([fitted.stacked.get(name, 0.0) for name in feature_names(some, fitted)])
    return np.where(some.choices, scores, -np.inf)


def feature_names(some: Ballots, fitted: EnsembleModel) -> list[str]:
    """The names of the features of `stacked`."""
    plain = [f"{name}: log-probability" for name in some.voters]
    near = [f"{name}: log-probability x similarity" for name in some.voters if fitted.of(name).looks]
    subjects = [f"{name}: log-probability in {subject}" for subject in fitted.subjects for name in some.voters]
    return [*plain, *near, *subjects, "share of the votes", "Borda points"]


def features(some: Ballots, fitted: EnsembleModel) -> Array:
    """What `stacked` weighs, (questions, choices, features): what each voter says, by itself, by how near the nearest
    solved example is and by subject; and how far the voters agree."""
    logs = np.where(some.choices[:, None, :] & some.voting[:, :, None], calibrated(some, fitted), 0.0)
    count = np.maximum(some.sizes[:, None, None], 1)
    logs = np.where(some.choices[:, None, :], logs - logs.sum(axis=2, keepdims=True) / count, 0.0).transpose(0, 2, 1)
    near = np.nan_to_num(some.similarity, nan=fitted.similarity)[:, None, None] - fitted.similarity
    looks = [column for column, name in enumerate(some.voters) if fitted.of(name).looks]
    blocks = [logs, logs[:, :, looks] * near]
    for subject in fitted.subjects:
        blocks.append(logs * np.array([one == subject for one in some.subjects])[:, None, None])
    votes = np.maximum(some.voting.sum(axis=1), 1)[:, None]
    agreed = [np.where(some.choices, rule(some, fitted), 0.0) / votes for rule in (majority, borda)]
    return np.concatenate([*blocks, *(one[:, :, None] for one in agreed)], axis=2)


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
# Rules whose scores are logarithms of probabilities, but for a constant; the shares of other rules' are theirs.
_LOGARITHMS = ("log_pool", "weighted", "dawid_skene", "cascade", "stacked")


def decide(rule: str, some: Ballots, fitted: EnsembleModel) -> Decision:
    """The verdicts of one rule on all questions."""
    if not some.voters or not some.choices.size:
        return Decision(np.full(len(some.task_ids), -1), np.zeros(some.choices.shape))
    scores = RULES[rule](some, fitted)
    pool = log_pool(some, fitted)
    best = _highest(scores, some.choices)
    best = _highest(np.where(best, pool, -np.inf), best)
    chosen = best.argmax(axis=1)
    if rule in _LOGARITHMS:
        shares = np.exp(_log_softmax(scores))
    else:
        shares = np.where(some.choices, scores, 0.0)
        shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)
    alone = np.asarray(some.voting.sum(axis=1) == 1)
    column = some.voting.argmax(axis=1)
    rows = np.arange(len(column))
    # As it stands, zeros and all, where nothing was learnt of it.
    cooled = np.array([fitted.of(name).temperature != 1 for name in some.voters])[column]
    own = np.where(
        (some.sharp[rows, column] | cooled)[:, None],
        np.exp(calibrated(some, fitted)[rows, column]),
        some.probabilities[rows, column],
    )
    silent = np.asarray(some.voting.sum(axis=1) == 0)
    chosen = np.where(alone, some.letters[rows, column], np.where(silent, -1, chosen))
    shares = np.where(alone[:, None], own, np.where(silent[:, None], 0.0, shares))
    return Decision(chosen, np.where(some.choices, shares, 0.0))


def _count(some: Ballots, weights: Array) -> Array:
    named = np.arange(some.choices.shape[1]) == some.letters[:, :, None]
    return np.where(some.choices, (named * (weights * some.voting)[:, :, None]).sum(axis=1), -np.inf)


def _preferences(some: Ballots) -> Array:
    """Each voter's ranking as numbers: its probabilities; one for a letter alone."""
    named = np.arange(some.choices.shape[1]) == some.letters[:, :, None]
    return np.where(some.sharp[:, :, None], named, some.probabilities)


def _highest(scores: Array, among: Bits) -> Bits:
    """Which choices have the highest score, but for rounding."""
    top = scores.max(axis=1, where=among, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        found: Bits = among & (scores >= (top - _ROUNDING * np.maximum(1.0, np.abs(top)))[:, None])
    return found


def _log_softmax(logits: Array) -> Array:
    top = logits.max(axis=-1, keepdims=True)
    shifted = logits - np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
