"""Ballots: whatever stands in a table of votes, in columns; what is none counts as failed, and nothing is guessed."""

import math
from dataclasses import replace

import numpy as np
import pytest

from codemmlu.voting.ballots import FAILED, ballots
from tests.support.rows import table, vote


def test_what_does_not_sum_to_one_is_brought_to_it() -> None:
    some = ballots(table(vote("B", (1.0, 3.0))))
    assert some.probabilities[0, 0].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "broken",
    [
        vote("A", (math.nan, 0.5)),
        vote("A", (math.inf, 0.5)),
        vote("A", (-0.5, 1.5)),
        vote("A", (0.0, 0.0)),
        vote("A", (0.5, 0.5), choices=3),
        vote("A", (0.4, 0.3, 0.3), choices=2),
        vote("E", (), choices=4),
        vote("Z", (0.5, 0.5)),
        vote("a", ()),
        vote("?", ()),
        vote(None, (0.5, 0.5)),
        vote(None, ()),
    ],
)
def test_a_malformed_answer_counts_as_failed_and_does_not_vote(broken: object) -> None:
    some = ballots(table(broken, vote("B", (0.1, 0.9), "w", choices=broken.choices)))  # type: ignore[attr-defined,arg-type]
    assert some.status[0, 0] == FAILED
    assert (some.letters[0, 0], some.voting[0, 0]) == (-1, False)
    assert not some.probabilities[0, 0].any()


def test_a_voter_without_an_answer_stays_on_the_list() -> None:
    rows = [vote(None, (), "mute", "failed"), vote("A", (0.9, 0.1), "w")]
    some = ballots(table(*(replace(row, choices=2) for row in rows)))
    assert some.voters == ("mute", "w")
    assert some.voting.tolist() == [[False, True]]


def test_two_answers_of_one_voter_to_one_question_are_refused() -> None:
    with pytest.raises(ValueError, match="one vote on every question"):
        ballots(table(vote("A"), vote("B")))


def test_voters_with_unequal_question_sets_are_refused() -> None:
    other = vote("A", (), "w", task_id="t2", position=2)
    with pytest.raises(ValueError, match="one vote on every question"):
        ballots(table(vote("A"), other))
    with pytest.raises(ValueError, match="one vote on every question"):
        ballots(table(vote("A"), replace(other, voter="v"), vote("A", (), "w")))


def test_questions_of_different_width_share_a_table() -> None:
    rows = [vote("B", (0.2, 0.8)), vote("C", (0.1, 0.2, 0.7), task_id="t2", position=2)]
    some = ballots(table(*rows[::-1]))
    assert some.task_ids == ("t1", "t2")
    assert some.choices.tolist() == [[True, True, False], [True, True, True]]
    assert some.probabilities[:, 0].tolist() == [[0.2, 0.8, 0.0], [0.1, 0.2, 0.7]]


def test_nothing_is_an_empty_table() -> None:
    some = ballots(table())
    assert (some.voters, some.task_ids, some.choices.shape) == ((), (), (0, 0))


def test_the_nearest_of_any_voter_is_the_similarity() -> None:
    rows = [vote("A", (), "v", nearest=0.3), vote("A", (), "w", nearest=0.8), vote("A", (), "x")]
    assert ballots(table(*rows)).similarity.tolist() == pytest.approx([0.8])
    assert np.isnan(ballots(table(vote("A"))).similarity).all()
