"""Rules: votes to verdicts, in whatever order the votes come."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special

from codemmlu.mcq import pick
from codemmlu.schema import Vote, letters
from codemmlu.voting.ballots import ballots
from codemmlu.voting.model import EnsembleModel, VoterFit
from codemmlu.voting.rules import RULES, decide, feature_names
from tests.support.rows import table, vote

ODDS = st.lists(st.floats(0, 1), min_size=4, max_size=4).filter(lambda odds: sum(odds) > 0.01)


def answered(voter: str, odds: list[float]) -> Vote:
    """A vote with probabilities in these proportions, and the letter that the view would give it."""
    probabilities = [value / sum(odds) for value in odds]
    return vote(pick(probabilities), probabilities, voter)


def silent(voter: str, status: str) -> Vote:
    return vote(None, (), voter, status)


PartialResult = tuple[str | None, tuple[float, ...]]


def verdicts(votes: list[Vote], fitted: EnsembleModel | None = None) -> dict[str, PartialResult]:
    """Return every rule's letter and probabilities for the one question that the votes are on."""
    some = ballots(table(*votes))
    known = fitted or EnsembleModel(order=tuple(reversed(some.voters)))
    if known.stacked is None:
        known = known.model_copy(update={"stacked": dict.fromkeys(feature_names(some, known), 1.0)})
    found: dict[str, PartialResult] = {}
    for rule in RULES:
        decided = decide(rule, some, known)
        letter = int(decided.letters[0])
        name = letters(26)[letter] if letter >= 0 else None
        found[rule] = name, tuple(map(float, decided.probabilities[0]))
    return found


def verdict(rule: str, votes: list[Vote], fitted: EnsembleModel | None = None) -> PartialResult:
    """Return one rule's letter and probabilities."""
    return verdicts(votes, fitted)[rule]


def assert_near(found: dict[str, PartialResult], expected: dict[str, PartialResult], atol: float) -> None:
    """Check that all rules have the same letters, and probabilities that differ by rounding alone."""
    for rule, (letter, probabilities) in expected.items():
        assert found[rule][0] == letter, rule
        np.testing.assert_allclose(found[rule][1], probabilities, atol=atol, err_msg=rule)


STATUSES = st.sampled_from(["abstained", "failed", "skipped"])


def voters(least: int, most: int) -> "st.SearchStrategy[list[Vote]]":
    """So many voters, all of whom answer."""
    many = st.lists(ODDS, min_size=least, max_size=most)
    return many.map(lambda odds: [answered(f"v{i}", one) for i, one in enumerate(odds)])


VOTES, THREE, SEVERAL = voters(1, 5), voters(3, 3), voters(2, 5)


@given(votes=VOTES, data=st.data())
def test_the_order_of_the_votes_does_not_matter(votes: list[Vote], data: st.DataObject) -> None:
    known = EnsembleModel(
        order=("v1", "v0"), voters={"v0": VoterFit(weight=0.3), "v1": VoterFit(weight=0.7, temperature=2.0)}
    )
    known = known.model_copy(update={"order": known.order if len(votes) > 1 else ()})
    shuffled = data.draw(st.permutations(votes))
    assert verdicts(shuffled, known) == verdicts(votes, known)


@given(many=st.lists(THREE, min_size=2, max_size=4), data=st.data())
def test_the_order_of_rows_of_several_questions_does_not_matter(many: list[list[Vote]], data: st.DataObject) -> None:
    rows = [replace(v, task_id=f"t{n}", position=n) for n, votes in enumerate(many) for v in votes]
    one, other = (ballots(table(*these)) for these in (rows, data.draw(st.permutations(rows))))
    known = EnsembleModel(order=one.voters)
    known = known.model_copy(update={"stacked": dict.fromkeys(feature_names(one, known), 1.0)})
    for rule in RULES:
        here, there = decide(rule, one, known), decide(rule, other, known)
        assert here.letters.tolist() == there.letters.tolist(), rule
        assert here.probabilities.tolist() == there.probabilities.tolist(), rule


@given(votes=THREE, wide=st.integers(5, 9))
def test_wider_questions_beside_it_change_nothing(votes: list[Vote], wide: int) -> None:
    beside = [replace(vote("A", [1 / wide] * wide, f"v{i}"), task_id="wide", position=99) for i in range(3)]
    some = ballots(table(*votes, *beside))
    known = EnsembleModel(order=("v2",)).model_copy(
        update={"stacked": dict.fromkeys(feature_names(some, EnsembleModel()), 1.0)}
    )
    alone = verdicts(votes, known)
    for rule in RULES:
        found = decide(rule, some, known)
        assert letters(26)[found.letters[0]] == alone[rule][0], rule
        np.testing.assert_allclose(found.probabilities[0, :4], alone[rule][1], atol=1e-12, err_msg=rule)


@given(votes=VOTES, silence=st.lists(STATUSES, max_size=3))
def test_abstentions_and_failures_never_vote(votes: list[Vote], silence: list[str]) -> None:
    more = [*votes, *(silent(f"s{i}", status) for i, status in enumerate(silence))]
    assert_near(verdicts(more), verdicts(votes), atol=1e-9)


@given(odds=ODDS)
def test_one_voter_has_its_own_answer(odds: list[float]) -> None:
    one = answered("v", odds)
    own = dict.fromkeys(RULES, (one.letter, one.probabilities))
    assert_near(verdicts([one, silent("other", "failed")]), own, atol=1e-12)


@given(value=st.floats(0.05, 0.3))
def test_one_voter_keeps_its_answer_if_choices_are_nearly_equal(value: float) -> None:
    probabilities = (value, math.nextafter(value, 1), value / 2)
    one = vote(pick(probabilities), probabilities)
    assert {letter for letter, _ in verdicts([one]).values()} == {one.letter}


@given(st.lists(STATUSES, min_size=1, max_size=3))
def test_where_nobody_answered_there_is_no_letter(silence: list[str]) -> None:
    found = verdicts([silent(f"s{i}", status) for i, status in enumerate(silence)])
    assert {(letter, sum(odds)) for letter, odds in found.values()} == {(None, 0.0)}


@example(odds=[1 - 2**-53, 1.0, 1.0, 1.0], copies=2)
@given(odds=ODDS, copies=st.integers(2, 4))
def test_voters_that_agree_in_everything_decide_as_one(odds: list[float], copies: int) -> None:
    one = answered("v0", odds)
    found = verdicts([answered(f"v{i}", odds) for i in range(copies)])
    for rule, (letter, probabilities) in found.items():
        assert letter == one.letter, rule
        assert sum(probabilities) == pytest.approx(1), rule
    np.testing.assert_allclose(found["log_pool"][1], one.probabilities, atol=1e-5)


@given(SEVERAL)
def test_log_pool_is_the_normalised_geometric_mean(votes: list[Vote]) -> None:
    logs = [[math.log(max(p, 1e-6)) for p in one.probabilities] for one in votes]
    logs = [list(special.log_softmax(one)) for one in logs]
    np.testing.assert_allclose(verdict("log_pool", votes)[1], special.softmax(np.mean(logs, axis=0)), rtol=1e-9)


def test_log_pool_by_hand() -> None:
    letter, odds = verdict("log_pool", [vote("A", (0.8, 0.2), "v1"), vote("B", (0.1, 0.9), "v2")])
    assert letter == "B"
    assert odds == pytest.approx((0.4, 0.6))  # sqrt(0.8 * 0.1) : sqrt(0.2 * 0.9) = 2 : 3


def test_weight_and_temperature_change_a_voters_part_in_a_pool() -> None:
    votes = [vote("A", (0.8, 0.2), "v1"), vote("B", (0.1, 0.9), "v2")]
    one_alone = EnsembleModel(voters={"v1": VoterFit(weight=1.0), "v2": VoterFit(weight=0.0)})
    assert verdict("log_pool", votes, one_alone)[1] == pytest.approx((0.8, 0.2))
    warm = EnsembleModel(voters={"v1": VoterFit(temperature=2.0), "v2": VoterFit(weight=0.0)})
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
    letter, odds = verdict("weighted", votes, EnsembleModel(voters=known))
    right = [1 / 3 + skill * 2 / 3 for skill in (0.85, 0.1)]
    good, poor = (math.log(2 * a / (1 - a)) for a in right)
    assert letter == "A"
    assert odds == pytest.approx(tuple(special.softmax([good, 2 * poor, 0.0])))


def test_a_cascade_takes_the_first_voter_that_is_clear() -> None:
    votes = [vote("A", (0.55, 0.45), "cheap"), vote("B", (0.2, 0.8), "dear"), vote("A", (0.99, 0.01), "last")]
    known = EnsembleModel(order=("cheap", "dear", "last"), margin=0.3)
    assert verdict("cascade", votes, known)[0] == "B"
    assert verdict("cascade", votes, known.model_copy(update={"margin": 0.05}))[0] == "A"
    nobody = known.model_copy(update={"margin": 1.0})
    assert verdict("cascade", votes, nobody) == verdict("log_pool", votes, nobody)


def test_a_letter_alone_gets_probabilities_by_the_voters_skill() -> None:
    known = EnsembleModel(voters={"theirs": VoterFit(skill=0.6), "mine": VoterFit(weight=0.0)})
    votes = [vote("B", (), "theirs"), vote("A", (0.4, 0.2, 0.2, 0.2), "mine")]
    assert verdict("log_pool", votes, known)[1] == pytest.approx((0.1, 0.7, 0.1, 0.1))  # 1/4 + 0.6 * 3/4


def test_in_the_last_round_too_the_borda_count_breaks_the_tie() -> None:
    votes = [answered("a", [0.6, 0.15, 0.25]), answered("b", [0.001, 0.998, 0.001])]
    letter, odds = verdict("instant_runoff", votes)
    assert letter == "A"
    assert odds[0] > odds[1]


def test_choices_that_a_voter_finds_equal_have_half_a_point() -> None:
    votes = [vote("A", (0.6, 0.2, 0.2), name) for name in ("v0", "v1")]
    assert verdict("borda", votes)[1] == pytest.approx((4 / 6, 1 / 6, 1 / 6))


def test_of_equally_many_first_places_the_borda_count_decides() -> None:
    """A: 2 + 0, B: 1 + 2, C: 0 + 1. Once C is out, A and B have one voter each."""
    votes = [vote("A", (0.5, 0.4, 0.1), "v0"), vote("B", (0.1, 0.6, 0.3), "v1")]
    assert verdict("instant_runoff", votes)[0] == "B"


def test_a_cascade_asks_in_its_own_order() -> None:
    votes = [vote("A", (0.9, 0.1), "dear"), vote("B", (0.1, 0.9), "small")]
    for order, letter in ((("small", "dear"), "B"), (("dear", "small"), "A")):
        assert verdict("cascade", votes, EnsembleModel(order=order, margin=0.3))[0] == letter
