"""Orders: every reading shows the choices in another one, and cyclic ones are fair to every choice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.mcq import Readings, orders


@given(st.integers(2, 26))
def test_cyclic_orders_put_every_choice_at_every_letter_once(size: int) -> None:
    shown = orders(size, "cyclic", "q")
    assert shown[0] == tuple(range(size))
    for letter in range(size):
        assert sorted(order[letter] for order in shown) == list(range(size))


@given(st.integers(2, 26), st.one_of(st.integers(1, 120), st.just("all")), st.text())
def test_orders_are_permutations_and_none_comes_twice(size: int, readings: Readings, seed: str) -> None:
    shown = orders(size, readings, seed)
    assert len(set(shown)) == len(shown)
    assert all(sorted(order) == list(range(size)) for order in shown)
    assert shown == orders(size, readings, seed)
    wanted = readings if isinstance(readings, int) else 120
    assert len(shown) == min(wanted, math.factorial(size))


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_orders_of_few_choices_are_all_there_are(size: int) -> None:
    assert len(orders(size, "all", "q")) == math.factorial(size)


def test_more_readings_begin_with_the_fewer() -> None:
    assert orders(4, 2, "q") == orders(4, "cyclic", "q")[:2] == orders(4, 9, "q")[:2]


def test_orders_beyond_the_cyclic_ones_are_the_questions_own() -> None:
    assert orders(8, 12, "one question")[8:] != orders(8, 12, "another")[8:]
