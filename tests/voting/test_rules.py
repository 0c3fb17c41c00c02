"""Rules: votes to a verdict, in any order of the voters."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from codemmlu.rows import Vote
from codemmlu.scoring import pick
from codemmlu.voting.rules import RULES, decide
from tests.samples import QUESTION, vote

ODDS = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda odds: sum(odds) > 0.01)


def answered(voter: str, odds: list[float]) -> Vote:
    """A vote with probabilities in these proportions, and the letter that the view would give it."""
    probabilities = [value / sum(odds) for value in odds]
    return vote(pick(probabilities), probabilities, voter)


def silent(voter: str, status: str) -> Vote:
    return vote(None, (), voter, status)


STATUSES = st.sampled_from(["abstained", "failed"])
VOTES = st.lists(ODDS, min_size=1, max_size=5).map(lambda many: [answered(f"v{i}", o) for i, o in enumerate(many)])


@pytest.mark.parametrize("rule", RULES)
@given(votes=VOTES, data=st.data())
def test_the_order_of_the_voters_does_not_matter(rule: str, votes: list[Vote], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(votes))
    assert decide(rule, QUESTION, shuffled) == decide(rule, QUESTION, votes)


@pytest.mark.parametrize("rule", RULES)
@given(votes=VOTES, silence=st.lists(STATUSES, max_size=3), data=st.data())
def test_abstentions_and_failures_never_vote(
    rule: str, votes: list[Vote], silence: list[str], data: st.DataObject
) -> None:
    more = [*votes, *(silent(f"s{i}", status) for i, status in enumerate(silence))]
    assert decide(rule, QUESTION, data.draw(st.permutations(more))) == decide(rule, QUESTION, votes)


@pytest.mark.parametrize("rule", RULES)
@given(odds=ODDS)
def test_one_voter_has_its_own_answer(rule: str, odds: list[float]) -> None:
    one = answered("v", odds)
    verdict = decide(rule, QUESTION, [one, silent("other", "failed")])
    assert (verdict.letter, verdict.probabilities) == (one.letter, one.probabilities)


@pytest.mark.parametrize("rule", RULES)
@given(value=st.floats(0.05, 0.3))
def test_one_voter_has_its_own_answer_where_two_choices_are_all_but_equal(rule: str, value: float) -> None:
    probabilities = (value, math.nextafter(value, 1), value / 2)
    one = vote(pick(probabilities), probabilities)
    assert decide(rule, QUESTION, [one]).letter == one.letter


@pytest.mark.parametrize("rule", RULES)
@given(st.lists(STATUSES, max_size=3))
def test_where_nobody_answered_there_is_no_letter(rule: str, silence: list[str]) -> None:
    verdict = decide(rule, QUESTION, [silent(f"s{i}", status) for i, status in enumerate(silence)])
    assert (verdict.letter, verdict.probabilities, verdict.rule) == (None, (), rule)
    assert (verdict.task_id, verdict.position) == (QUESTION.task_id, QUESTION.position)


@pytest.mark.parametrize("rule", RULES)
@given(odds=ODDS, copies=st.integers(2, 4))
def test_voters_that_agree_in_everything_decide_as_one(rule: str, odds: list[float], copies: int) -> None:
    one = answered("v0", odds)
    verdict = decide(rule, QUESTION, [answered(f"v{i}", odds) for i in range(copies)])
    assert verdict.letter == one.letter
    np.testing.assert_allclose(verdict.probabilities, one.probabilities, atol=1e-5)


@given(VOTES.filter(lambda votes: len(votes) > 1))
def test_log_pool_is_the_normalised_geometric_mean(votes: list[Vote]) -> None:
    logs = [[math.log(max(p, 1e-6)) for p in vote.probabilities] for vote in votes]
    expected = special.softmax(np.mean(logs, axis=0))
    np.testing.assert_allclose(decide("log_pool", QUESTION, votes).probabilities, expected, rtol=1e-9)


def test_log_pool_by_hand() -> None:
    votes = [vote("A", (0.8, 0.2), "v1"), vote("B", (0.1, 0.9), "v2")]
    verdict = decide("log_pool", QUESTION, votes)
    assert verdict.letter == "B"
    assert verdict.probabilities == pytest.approx((0.4, 0.6))  # sqrt(0.8 * 0.1) : sqrt(0.2 * 0.9) = 2 : 3


def test_a_voter_that_is_certain_does_not_silence_all_others() -> None:
    certain = vote("A", (1.0, 0.0, 0.0), "v0")
    doubting = [vote("B", (1e-6, 1 - 2e-6, 1e-6), f"v{i}") for i in (1, 2)]
    assert decide("log_pool", QUESTION, [certain, *doubting]).letter == "B"


def test_of_equal_choices_the_first_wins() -> None:
    votes = [vote("A", (0.7, 0.3), "v1"), vote("B", (0.3, 0.7), "v2")]
    assert decide("log_pool", QUESTION, votes).letter == "A"
