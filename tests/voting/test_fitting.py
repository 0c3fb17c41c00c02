"""Fitting: weights go to voters that know something, and what has no part in it cannot be fitted on."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from codemmlu.schema import letters
from codemmlu.voting import dawid_skene
from codemmlu.voting.ballots import Ballots, ballots
from codemmlu.voting.fitting import FitSettings, fit
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.rules import RULES, decide
from tests.support.rows import table, vote

_CHOICES = 4


def ensemble(count: int, sharpness: float = 1.0, seed: int = 0, **skills: float) -> tuple[Ballots, list[int]]:
    """Return votes of voters that know a share of the questions and guess the others, and the right choices.

    sharpness: what their log-probabilities are multiplied with: 1 says as much as they know, about
    """
    random = np.random.default_rng(seed)
    right = random.integers(0, _CHOICES, count)
    odds = np.empty((count, len(skills), _CHOICES))
    names = sorted(skills)
    for name, skill in skills.items():
        logits = random.normal(0, 1, (count, _CHOICES))
        logits[np.arange(count), right] += 3 * skill
        odds[:, names.index(name)] = np.exp(logits * sharpness)
    odds /= odds.sum(axis=2, keepdims=True)
    some = Ballots(
        voters=tuple(names),
        task_ids=tuple(f"t{place}" for place in range(count)),
        positions=np.arange(count),
        choices=np.ones((count, _CHOICES), dtype=bool),
        status=np.zeros((count, len(names)), dtype=np.int8),
        letters=odds.argmax(axis=2),
        probabilities=odds,
        sharp=np.zeros((count, len(names)), dtype=bool),
        similarity=np.full(count, np.nan),
        subjects=(None,) * count,
    )
    return some, right.tolist()


def fitted(some: Ballots, right: list[int]) -> EnsembleModel:
    return fit(some, right, FitSettings(some.voters))


@cache
def fitted_on(count: int, sharpness: float = 1.0, **skills: float) -> EnsembleModel:
    """Fit an ensemble. Two tests that need the same one fit it once: a fit takes seconds."""
    return fitted(*ensemble(count, sharpness, **dict[str, Any](skills)))


def test_a_voter_that_only_adds_noise_has_no_weight() -> None:
    known = fitted_on(400, good=0.7, fair=0.5, noise=0.0)
    weights = {name: known.of(name).weight for name in ("good", "fair", "noise")}
    assert weights["noise"] == 0.0
    assert min(weights["good"], weights["fair"]) > 0.3  # once calibrated, each says as much as it knows
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("sharpness", [0.25, 4.0])
def test_the_temperature_undoes_how_loud_a_voter_is(sharpness: float) -> None:
    loud, plain = fitted_on(1500, sharpness, v=0.5).of("v"), fitted_on(1500, v=0.5).of("v")
    assert loud.temperature == pytest.approx(plain.temperature * sharpness, rel=0.1)


def test_skill_is_what_is_known_beyond_guessing() -> None:
    random = np.random.default_rng(0)
    right = random.integers(0, _CHOICES, 2000)
    said = np.where(random.random(2000) < 0.6, right, random.integers(0, _CHOICES, 2000))
    rows = [vote(letters(4)[c], (), "v", task_id=f"t{n}", position=n) for n, c in enumerate(said)]
    known = fitted(ballots(table(*rows)), right.tolist()).of("v")
    assert known.skill == pytest.approx(0.6, abs=0.03)
    assert (known.right, known.asked) == (int((said == right).sum()), 2000)


def test_fitted_rules_do_better_on_questions_they_have_not_seen() -> None:
    skills = {"good": 0.7, "n1": 0.0, "n2": 0.0, "n3": 0.0}
    known = fitted_on(400, **skills)
    fresh, answers = ensemble(1000, seed=1, **skills)
    share = {rule: float((decide(rule, fresh, known).letters == answers).mean()) for rule in RULES}
    plain = float((decide("majority", fresh, EnsembleModel()).letters == answers).mean())
    best = float((fresh.letters[:, fresh.voters.index("good")] == answers).mean())
    for rule in ("log_pool", "weighted", "stacked"):
        assert share[rule] > plain + 0.1
        assert share[rule] >= best - 0.02
        assert known.cross_validated[rule] == pytest.approx(share[rule], abs=0.06)


def test_the_cascades_margin_is_the_smallest_of_the_best() -> None:
    skills: Any = {"good": 0.7, "fair": 0.5, "noise": 0.0}
    known, (some, right) = fitted_on(400, **skills), ensemble(400, **skills)

    def hits(margin: float) -> int:
        tried = known.model_copy(update={"margin": margin})
        return int((decide("cascade", some, tried).letters == right).sum())

    tried = [step / 50 for step in range(50)]
    assert known.order[0] == "fair"
    assert 0 < known.margin < 0.9
    assert known.margin == max(tried, key=lambda margin: (hits(margin), -margin))


def test_the_order_of_the_fit_split_changes_nothing() -> None:
    some, right = ensemble(120, a=0.6, b=0.3)
    turned = np.arange(120)[::-1].copy()
    one, other = fitted(some, right), fitted(some.rows(turned), [right[i] for i in turned])
    assert one.cross_validated == other.cross_validated
    for name in some.voters:
        assert one.of(name).weight == pytest.approx(other.of(name).weight, abs=1e-4)


def test_a_voter_of_too_few_examples_weighs_what_the_others_do() -> None:
    some, right = ensemble(100, a=0.6, b=0.6)
    status = some.status.copy()
    status[5:, 1] = 3  # skipped
    known = fitted(replace(some, status=status, letters=np.where(status == 0, some.letters, -1)), right)
    assert known.of("b").asked == 5
    assert known.of("b").weight == pytest.approx(known.of("a").weight)


def test_a_voter_without_votes_on_the_fit_split_keeps_a_weight() -> None:
    """Another system's answers to the questions alone: agreement says what it is worth."""
    some, right = ensemble(100, a=0.6, theirs=0.6)
    status = some.status.copy()
    status[:, 1] = 3
    silent = replace(some, status=status, letters=np.where(status == 0, some.letters, -1))
    known = fit(silent, right, FitSettings(some.voters, agreed={"theirs": 0.7}))
    assert known.of("theirs").weight == pytest.approx(known.of("a").weight)
    assert known.of("theirs").skill == 0.7


def test_where_nobody_was_asked_nothing_is_fitted() -> None:
    some, right = ensemble(50, a=0.6, b=0.6)
    silent = replace(some, status=np.full_like(some.status, 2), letters=np.full_like(some.letters, -1))
    known = fitted(silent, right)
    assert (known.fitted_on, known.cross_validated, known.stacked) == (0, {}, None)
    assert decide("stacked", some, known).letters.tolist() == decide("log_pool", some, known).letters.tolist()


def test_voters_that_agree_beyond_chance_are_taken_for_skilled() -> None:
    some, _ = ensemble(3000, good=0.9, better=1.2, noise=0.0)
    skills = dawid_skene.skills(some.voters, some.letters, some.sizes)
    assert skills["noise"] < 0.1 < 0.4 < min(skills["good"], skills["better"])


def test_agreement_of_nothing_is_nothing() -> None:
    nothing = np.zeros((0, 2), dtype=np.int64)
    assert dawid_skene.skills(("a", "b"), nothing, nothing[:, 0]) == {}


def _silenced(some: Ballots, share: float) -> Ballots:
    """The same, each vote with this chance an abstention."""
    quiet = np.random.default_rng(5).random(some.status.shape) < share
    return replace(some, status=np.where(quiet, 1, some.status).astype(np.int8))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_pool_of_few_voters_is_as_sure_as_it_is_right(share: float) -> None:
    skills = {f"v{n}": 0.6 for n in range(5)}
    known = fitted_on(600, **skills)
    some, right = ensemble(2000, seed=1, **skills)
    some = _silenced(some, share)
    several = some.rows(np.flatnonzero(some.voting.sum(axis=1) > 1))
    gold = np.array(right)[some.voting.sum(axis=1) > 1]
    said = decide("log_pool", several, known)
    assert said.probabilities.max(axis=1).mean() == pytest.approx((said.letters == gold).mean(), abs=0.04)


def test_who_votes_alone_is_as_sure_as_the_fit_split_has_it() -> None:
    known = fitted_on(600, 4.0, loud=0.3, other=0.3)
    some, right = ensemble(1000, 4.0, seed=1, loud=0.3)
    said = decide("cascade", some, known.model_copy(update={"order": ("loud",)}))
    assert said.probabilities.max(axis=1).mean() == pytest.approx((said.letters == np.array(right)).mean(), abs=0.04)


def test_on_the_fit_split_too_an_abstention_is_not_right() -> None:
    assert _accuracy((1, 1)) == pytest.approx(_accuracy((0, 0)) / 2, abs=0.03)


@pytest.mark.parametrize("status", [(2, 2), (2, 3)], ids=["failed for both", "failed for one, not asked of the other"])
def test_what_only_failed_on_the_fit_split_is_not_counted(status: tuple[int, int]) -> None:
    assert _accuracy(status) == pytest.approx(_accuracy((0, 0)), abs=0.03)


@cache
def _accuracy(status: tuple[int, int]) -> float:
    """Return the pool's accuracy on the fit split where every other question has this status of two good voters."""
    some, right = ensemble(400, a=0.9, b=0.9)
    half = np.arange(400)[:, None] % 2 == 0
    changed = replace(some, status=np.where(half, np.array([status]), some.status).astype(np.int8))
    return fitted(changed, right).cross_validated["log_pool"]
