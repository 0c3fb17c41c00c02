"""Conversations to probabilities: what was answered last stands on top, as sure as it was reached."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.mcq import margin, pick, verified
from codemmlu.schema import Reading, Turn
from tests.support.rows import reading


def talk(*checks: float, left: int = 4) -> tuple[list[Reading], list[Turn]]:
    """A conversation over four choices that answered A, then B, ...; the last check accepts, or one choice is left."""
    readings, turns = [], []
    for place, p in enumerate(checks):
        order = tuple(range(place, 4))
        readings.append(reading([math.log(0.5), *[math.log(0.5 / len(order))] * (len(order) - 1)], order))
        turns += [Turn("answer", "ABCD"[place], None, "", "exact"), Turn("check", "ABCD"[place], p, "", "exact")]
    if len(checks) == 3 and left == 1:
        readings.append(reading([math.log(0.9)], (3,)))
        turns.append(Turn("answer", "D", None, "", "exact"))
    return readings, turns


def test_the_last_answer_is_on_top() -> None:
    assert pick(verified(*talk(0.1, 0.9))) == "B"
    assert pick(verified(*talk(0.1, 0.2, 0.3, left=1))) == "D"


def test_a_choice_left_over_is_less_sure_after_close_checks() -> None:
    sure, unsure = (margin(verified(*talk(*checks, left=1))) for checks in ((0.01, 0.01, 0.01), (0.49, 0.49, 0.49)))
    assert unsure < sure < 1


def test_an_answer_is_surer_the_surer_its_check_is() -> None:
    assert margin(verified(*talk(0.6))) < margin(verified(*talk(0.95)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_they_are_probabilities_with_the_answer_on_top(checks: Sequence[float]) -> None:
    found = verified(*talk(*checks))
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    assert pick(found) == "ABCD"[len(checks) - 1]
