"""Rules: votes to verdicts, in whatever order the votes come."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special

from codemmlu.rows import Vote, letters
from codemmlu.scoring import pick
from codemmlu.voting.ballots import ballots
from codemmlu.voting.fitted import Fitted, VoterFit
from codemmlu.voting.rules import RULES, decide, feature_names
from tests.samples import table, vote

ODDS = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda odds: sum(odds) > 0.01)


def answered(voter: str, odds: list[float]) -> Vote:
    """A vote with probabilities in these proportions, and the letter that the view would give it."""
    probabilities = [value / sum(odds) for value in odds]
    return vote(pick(probabilities), probabilities, voter)


def silent(voter: str, status: str) -> Vote:
    return vote(None, (), voter, status)


def verdict(rule: str, votes: list[Vote], fitted: Fitted | None = None) -> tuple[str | None, tuple[float, ...]]:
    """The letter and the probabilities of the one question that the votes are on."""
    some = ballots(table(*votes))
    known = fitted or Fitted(order=tuple(reversed(some.voters)))
    if known.stacked is None:
        known = known.model_copy(update={"stacked": dict.fromkeys(feature_names(some, known), 1.0)})
    found = decide(rule, some, known)
    letter = int(found.letters[0])
    return (letters(26)[letter] if letter >= 0 else None), tuple(map(float, found.probabilities[0]))


STATUSES = st.sampled_from(["abstained", "failed", "skipped"])


def voters(least: int, most: int) -> "st.SearchStrategy[list[Vote]]":
    """So many voters, all of whom answer."""
    many = st.lists(ODDS, min_size=least, max_size=most)
    return many.map(lambda odds: [answered(f"v{i}", one) for i, one in enumerate(odds)])


VOTES, THREE, SEVERAL = voters(1, 5), voters(3, 3), voters(2, 5)


@pytest.mark.parametrize("rule", RULES)
@given(votes=VOTES, data=st.data())
def test_the_order_of_the_votes_does_not_matter(rule: str, votes: list[Vote], data: st.DataObject) -> None:
    known = Fitted(order=("v1", "v0"), voters={"v0": VoterFit(weight=0.3), "v1": VoterFit(weight=0.7, temperature=2.0)})
    known = known.model_copy(update={"order": known.order if len(votes) > 1 else ()})
    shuffled = data.draw(st.permutations(votes))
    assert verdict(rule, shuffled, known) == verdict(rule, votes, known)


@pytest.mark.parametrize("rule", RULES)
@given(many=st.lists(THREE, min_size=2, max_size=4), data=st.data())
def test_the_order_of_rows_does_not_matter_among_several_questions(
    rule: str, many: list[list[Vote]], data: st.DataObject
) -> None:
    rows = [replace(v, task_id=f"t{n}", position=n) for n, votes in enumerate(many) for v in votes]
    found = []
    for one in (rows, data.draw(st.permutations(rows))):
        some = ballots(table(*one))
        known = Fitted(order=some.voters)
        known = known.model_copy(update={"stacked": dict.fromkeys(feature_names(some, known), 1.0)})
        found.append(decide(rule, some, known))
    assert found[0].letters.tolist() == found[1].letters.tolist()
    assert found[0].probabilities.tolist() == found[1].probabilities.tolist()


@pytest.mark.parametrize("rule", RULES)
@given(votes=THREE, wide=st.integers(5, 9))
def test_wider_questions_beside_it_change_nothing(rule: str, votes: list[Vote], wide: int) -> None:
    beside = [replace(vote("A", [1 / wide] * wide, f"v{i}"), task_id="wide", position=99) for i in range(3)]
    some = ballots(table(*votes, *beside))
    known = Fitted(order=("v2",)).model_copy(update={"stacked": dict.fromkeys(feature_names(some, Fitted()), 1.0)})
    found = decide(rule, some, known)
    letter, probabilities = verdict(rule, votes, known)
    assert letters(26)[found.letters[0]] == letter
    np.testing.assert_allclose(found.probabilities[0, :4], probabilities, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@given(votes=VOTES, silence=st.lists(STATUSES, max_size=3))
def test_abstentions_and_failures_never_vote(rule: str, votes: list[Vote], silence: list[str]) -> None:
    more = [*votes, *(silent(f"s{i}", status) for i, status in enumerate(silence))]
    letter, odds = verdict(rule, more)
    plain = verdict(rule, votes)
    assert letter == plain[0]
    np.testing.assert_allclose(odds, plain[1], atol=1e-9)


@pytest.mark.parametrize("rule", RULES)
@given(odds=ODDS)
def test_one_voter_has_its_own_answer(rule: str, odds: list[float]) -> None:
    one = answered("v", odds)
    letter, probabilities = verdict(rule, [one, silent("other", "failed")])
    assert letter == one.letter
    np.testing.assert_allclose(probabilities, one.probabilities, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
@given(value=st.floats(0.05, 0.3))
def test_one_voter_has_its_own_answer_where_two_choices_are_all_but_equal(rule: str, value: float) -> None:
    probabilities = (value, math.nextafter(value, 1), value / 2)
    one = vote(pick(probabilities), probabilities)
    assert verdict(rule, [one])[0] == one.letter


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(STATUSES, min_size=1, max_size=3))
def test_where_nobody_answered_there_is_no_letter(rule: str, silence: list[str]) -> None:
    letter, odds = verdict(rule, [silent(f"s{i}", status) for i, status in enumerate(silence)])
    assert (letter, sum(odds)) == (None, 0.0)


@pytest.mark.parametrize("rule", RULES)
@example(odds=[1 - 2**-53, 1.0, 1.0, 1.0], copies=2)
@given(odds=ODDS, copies=st.integers(2, 4))
def test_voters_that_agree_in_everything_decide_as_one(rule: str, odds: list[float], copies: int) -> None:
    one = answered("v0", odds)
    letter, probabilities = verdict(rule, [answered(f"v{i}", odds) for i in range(copies)])
    assert letter == one.letter
    assert sum(probabilities) == pytest.approx(1)
    if rule == "log_pool":
        np.testing.assert_allclose(probabilities, one.probabilities, atol=1e-5)


@given(SEVERAL)
def test_log_pool_is_the_normalised_geometric_mean(votes: list[Vote]) -> None:
    logs = [[math.log(max(p, 1e-6)) for p in one.probabilities] for one in votes]
    logs = [list(special.log_softmax(one)) for one in logs]
    np.testing.assert_allclose(verdict("log_pool", votes)[1], special.softmax(np.mean(logs, axis=0)), rtol=1e-9)


def test_log_pool_by_hand() -> None:
    letter, odds = verdict("log_pool", [vote("A", (0.8, 0.2), "v1"), vote("B", (0.1, 0.9), "v2")])
    assert letter == "B"
    assert odds == pytest.approx((0.4, 0.6))  # sqrt(0.8 * 0.1) : sqrt(0.2 * 0.9) = 2 : 3


def test_a_weight_and_a_temperature_change_what_a_voter_says_in_the_pool() -> None:
    votes = [vote("A", (0.8, 0.2), "v1"), vote("B", (0.1, 0.9), "v2")]
    one_alone = Fitted(voters={"v1": VoterFit(weight=1.0), "v2": VoterFit(weight=0.0)})
    assert verdict("log_pool", votes, one_alone)[1] == pytest.approx((0.8, 0.2))
    warm = Fitted(voters={"v1": VoterFit(temperature=2.0), "v2": VoterFit(weight=0.0)})
    assert verdict("log_pool", votes, warm)[1] == pytest.approx((2 / 3, 1 / 3))  # sqrt(0.8) : sqrt(0.2)


def test_a_voter_that_is_certain_does_not_silence_all_others() -> None:
    certain = vote("A", (1.0, 0.0, 0.0), "v0")
    doubting = [vote("B", (1e-6, 1 - 2e-6, 1e-6), f"v{i}") for i in (1, 2)]
    assert verdict("log_pool", [certain, *doubting])[0] == "B"


def test_of_equal_choices_the_first_wins() -> None:
    assert verdict("log_pool", [vote("A", (0.7, 0.3), "v1"), vote("B", (0.3, 0.7), "v2")])[0] == "A"


def test_of_equal_counts_the_pool_decides() -> None:
    """One voter each: the surer one has the pool on its side."""
    votes = [vote("A", (0.6, 0.4), "v1"), vote("B", (0.1, 0.9), "v2")]
    assert verdict("majority", votes) == ("B", (0.5, 0.5))


# Three voters have C second; the first choices are A, A, B, B, C.
RANKED = [
    vote("A", (0.50, 0.10, 0.40), "v0"),
    vote("A", (0.50, 0.10, 0.40), "v1"),
    vote("B", (0.10, 0.50, 0.40), "v2"),
    vote("B", (0.15, 0.50, 0.35), "v3"),
    vote("C", (0.20, 0.30, 0.50), "v4"),
]


def test_borda_by_hand() -> None:
    """A: 2 + 2 + 0 + 0 + 0, B: 0 + 0 + 2 + 2 + 1, C: 1 + 1 + 1 + 1 + 2."""
    letter, odds = verdict("borda", RANKED)
    assert letter == "C"
    assert odds == pytest.approx((4 / 15, 5 / 15, 6 / 15))


def test_instant_runoff_by_hand() -> None:
    """C has the fewest first places and is struck out; its voter has B next."""
    assert verdict("instant_runoff", RANKED)[0] == "B"


def test_weighted_by_hand() -> None:
    """A good voter weighs more than two poor ones: at three choices log(2 a / (1 - a))."""
    known = {"v0": VoterFit(skill=0.85), "v1": VoterFit(skill=0.1), "v2": VoterFit(skill=0.1)}
    votes = [vote("A", (), "v0", choices=3), *(vote("B", (), name, choices=3) for name in ("v1", "v2"))]
    assert verdict("majority", votes)[0] == "B"
    letter, odds = verdict("weighted", votes, Fitted(voters=known))
    right = [1 / 3 + skill * 2 / 3 for skill in (0.85, 0.1)]
    good, poor = (math.log(2 * a / (1 - a)) for a in right)
    assert letter == "A"
    assert odds == pytest.approx(tuple(special.softmax([good, 2 * poor, 0.0])))


def test_a_cascade_takes_the_first_voter_that_is_clear() -> None:
    votes = [vote("A", (0.55, 0.45), "cheap"), vote("B", (0.2, 0.8), "dear"), vote("A", (0.99, 0.01), "last")]
    known = Fitted(order=("cheap", "dear", "last"), margin=0.3)
    assert verdict("cascade", votes, known)[0] == "B"
    assert verdict("cascade", votes, known.model_copy(update={"margin": 0.05}))[0] == "A"
    nobody = known.model_copy(update={"margin": 1.0})
    assert verdict("cascade", votes, nobody) == verdict("log_pool", votes, nobody)


def test_a_letter_alone_counts_as_what_a_voter_of_its_skill_knows() -> None:
    known = Fitted(voters={"theirs": VoterFit(skill=0.6), "mine": VoterFit(weight=0.0)})
    votes = [vote("B", (), "theirs"), vote("A", (0.4, 0.2, 0.2, 0.2), "mine")]
    assert verdict("log_pool", votes, known)[1] == pytest.approx((0.1, 0.7, 0.1, 0.1))  # 1/4 + 0.6 * 3/4


def test_in_the_last_round_too_the_borda_count_breaks_the_tie() -> None:
    votes = [answered("a", [0.6, 0.15, 0.25]), answered("b", [0.001, 0.998, 0.001])]
    letter, odds = verdict("instant_runoff", votes)
    assert letter == "A"
    assert odds[0] > odds[1]
