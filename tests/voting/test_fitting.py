"""Fitting: weights go to voters that know something, and what has no part in it cannot be fitted on."""

from dataclasses import replace

import numpy as np
import pytest

from codemmlu.rows import Vote, letters
from codemmlu.voting import agreement
from codemmlu.voting.ballots import Ballots, ballots
from codemmlu.voting.fitted import Fitted
from codemmlu.voting.fitting import fit
from codemmlu.voting.rules import RULES, decide
from tests.samples import table, vote

_CHOICES = 4


def panel(count: int, skills: dict[str, float], sharpness: float = 1.0, seed: int = 0) -> tuple[Ballots, list[int]]:
    """Votes of voters that know a share of the questions and guess the others, and the right choices.

    sharpness: what their log-probabilities are multiplied with: 1 says as much as they know, about
    """
    random = np.random.default_rng(seed)
    right = random.integers(0, _CHOICES, count)
    rows: list[Vote] = []
    for name, skill in skills.items():
        logits = random.normal(0, 1, (count, _CHOICES))
        logits[np.arange(count), right] += 3 * skill
        odds = np.exp(logits * sharpness)
        odds /= odds.sum(axis=1, keepdims=True)
        for place, chances in enumerate(odds):
            letter = letters(_CHOICES)[int(chances.argmax())]
            rows.append(replace(vote(letter, chances.tolist(), name), task_id=f"t{place}", position=place))
    return ballots(table(*rows)), right.tolist()


def fitted(some: Ballots, right: list[int]) -> Fitted:
    return fit(some, right, frozenset(), some.voters, {}, None)


def test_a_voter_that_only_adds_noise_has_no_weight() -> None:
    some, right = panel(400, {"good": 0.7, "fair": 0.5, "noise": 0.0})
    known = fitted(some, right)
    weights = {name: known.of(name).weight for name in some.voters}
    assert weights["noise"] == 0.0
    assert min(weights["good"], weights["fair"]) > 0.3  # once calibrated, each says as much as it knows
    assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_how_loud_a_voter_is(sharpness: float) -> None:
    some, right = panel(1500, {"v": 0.5}, sharpness)
    quiet, _ = panel(1500, {"v": 0.5})
    one, other = fitted(some, right).of("v").temperature, fitted(quiet, right).of("v").temperature
    assert one == pytest.approx(other * sharpness, rel=0.1)


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
    some, right = panel(400, skills)
    fresh, answers = panel(1000, skills, seed=1)
    known = fitted(some, right)
    share = {rule: float((decide(rule, fresh, known).letters == answers).mean()) for rule in RULES}
    plain = float((decide("majority", fresh, Fitted()).letters == answers).mean())
    best = float((fresh.letters[:, fresh.voters.index("good")] == answers).mean())
    for rule in ("log_pool", "weighted", "stacked"):
        assert share[rule] > plain + 0.1
        assert share[rule] >= best - 0.02
        assert known.cross_validated[rule] == pytest.approx(share[rule], abs=0.06)


def test_the_order_of_the_fit_split_changes_nothing() -> None:
    some, right = panel(120, {"a": 0.6, "b": 0.3})
    turned = np.arange(120)[::-1].copy()
    one, other = fitted(some, right), fitted(some.rows(turned), [right[i] for i in turned])
    assert one.cross_validated == other.cross_validated
    for name in some.voters:
        assert one.of(name).weight == pytest.approx(other.of(name).weight, abs=1e-4)


def test_a_voter_of_too_few_solved_examples_weighs_what_the_others_do() -> None:
    some, right = panel(100, {"a": 0.6, "b": 0.6})
    status = some.status.copy()
    status[5:, 1] = 3  # skipped
    known = fitted(replace(some, status=status, letters=np.where(status == 0, some.letters, -1)), right)
    assert known.of("b").asked == 5
    assert known.of("b").weight == pytest.approx(known.of("a").weight)


def test_a_voter_without_any_vote_on_the_fit_split_is_not_silenced() -> None:
    """Another system's answers to the questions alone: agreement says what it is worth."""
    some, right = panel(100, {"a": 0.6, "theirs": 0.6})
    status = some.status.copy()
    status[:, 1] = 3
    silent = replace(some, status=status, letters=np.where(status == 0, some.letters, -1))
    known = fit(silent, right, frozenset(), some.voters, {"theirs": 0.7}, None)
    assert known.of("theirs").weight == pytest.approx(known.of("a").weight)
    assert known.of("theirs").skill == 0.7


def test_where_nobody_was_asked_nothing_is_fitted() -> None:
    some, right = panel(50, {"a": 0.6, "b": 0.6})
    silent = replace(some, status=np.full_like(some.status, 2), letters=np.full_like(some.letters, -1))
    known = fitted(silent, right)
    assert (known.fitted_on, known.cross_validated, known.stacked) == (0, {}, None)
    assert decide("stacked", some, known).letters.tolist() == decide("log_pool", some, known).letters.tolist()


def test_voters_that_agree_beyond_chance_are_taken_for_skilled() -> None:
    some, _ = panel(3000, {"good": 0.9, "better": 1.2, "noise": 0.0})
    skills = agreement.skills(some.voters, some.letters, some.sizes)
    assert skills["noise"] < 0.1 < 0.4 < min(skills["good"], skills["better"])


def test_agreement_of_nothing_is_nothing() -> None:
    nothing = np.zeros((0, 2), dtype=np.int64)
    assert agreement.skills(("a", "b"), nothing, nothing[:, 0]) == {}


def _silenced(some: Ballots, share: float) -> Ballots:
    """The same, each vote with this chance an abstention."""
    quiet = np.random.default_rng(5).random(some.status.shape) < share
    return replace(some, status=np.where(quiet, 1, some.status).astype(np.int8))


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_pool_of_few_voters_is_as_sure_as_it_is_right(share: float) -> None:
    skills = {f"v{n}": 0.6 for n in range(5)}
    known = fitted(*panel(600, skills))
    some, right = panel(2000, skills, seed=1)
    some = _silenced(some, share)
    several = some.rows(np.flatnonzero(some.voting.sum(axis=1) > 1))
    gold = np.array(right)[some.voting.sum(axis=1) > 1]
    said = decide("log_pool", several, known)
    assert said.probabilities.max(axis=1).mean() == pytest.approx((said.letters == gold).mean(), abs=0.04)


def test_who_votes_alone_is_as_sure_as_the_fit_split_has_it() -> None:
    known = fitted(*panel(600, {"loud": 0.3, "other": 0.3}, sharpness=4.0))
    some, right = panel(1000, {"loud": 0.3}, sharpness=4.0, seed=1)
    said = decide("cascade", some, known.model_copy(update={"order": ("loud",)}))
    assert said.probabilities.max(axis=1).mean() == pytest.approx((said.letters == np.array(right)).mean(), abs=0.04)


def test_on_the_fit_split_too_an_abstention_is_not_right() -> None:
    some, right = panel(400, {"a": 0.9, "b": 0.9})
    quiet = np.arange(400) % 2 == 0
    halved = replace(some, status=np.where(quiet[:, None], 1, some.status).astype(np.int8))
    broken = replace(some, status=np.where(quiet[:, None], 2, some.status).astype(np.int8))
    whole, half, without = (fitted(one, right).cross_validated["log_pool"] for one in (some, halved, broken))
    assert half == pytest.approx(whole / 2, abs=0.03)
    assert without == pytest.approx(whole, abs=0.03)


def test_what_failed_for_one_and_was_not_asked_of_another_is_not_counted() -> None:
    some, right = panel(400, {"a": 0.9, "b": 0.9})
    gone = np.arange(400) % 2 == 0
    status = np.where(gone[:, None], np.array([[2, 3]]), some.status).astype(np.int8)
    whole, without = (fitted(one, right).cross_validated["log_pool"] for one in (some, replace(some, status=status)))
    assert without == pytest.approx(whole, abs=0.03)
