"""Readings to probabilities, against scipy."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from codemmlu.mcq import choice_probabilities, is_finite, margin, pick
from codemmlu.mcq.probabilities import log_softmax
from codemmlu.schema import Reading
from tests.support.rows import reading

logs = st.floats(-60, 0, width=32)
orders = st.integers(2, 26).flatmap(lambda n: st.permutations(range(n)))


@st.composite
def sets_of_readings(draw: st.DrawFn) -> list[Reading]:
    """One to five readings of one question, each in an order of its own."""
    n = draw(st.integers(2, 8))
    one = st.builds(reading, st.lists(logs, min_size=n, max_size=n), st.permutations(range(n)))
    return draw(st.lists(one, min_size=1, max_size=5))


@given(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=4))
def test_log_softmax_is_scipys(rows: list[list[float]]) -> None:
    values = np.array(rows)
    np.testing.assert_allclose(log_softmax(values), special.log_softmax(values, axis=-1), atol=1e-9)


@given(sets_of_readings())
def test_the_probabilities_are_the_normalised_geometric_mean(readings: list[Reading]) -> None:
    n = len(readings[0].order)
    by_choice = np.empty((len(readings), n))
    for row, one in enumerate(readings):
        for letter, choice in enumerate(one.order):
            by_choice[row, choice] = special.log_softmax(one.logprobs)[letter]
    expected = special.softmax(by_choice.mean(axis=0))
    found = choice_probabilities(readings)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert math.isclose(found.sum(), 1.0)


@given(orders, st.data())
def test_a_permuted_order_maps_back(order: list[int], data: st.DataObject) -> None:
    """The model that prefers one choice prefers it wherever it is shown."""
    chosen = data.draw(st.sampled_from(order))
    logprobs = [-0.1 if choice == chosen else -3.0 for choice in order]
    found = choice_probabilities([reading(logprobs, order)])
    assert int(found.argmax()) == chosen
    assert pick(found) == "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[chosen]


@given(sets_of_readings(), st.randoms(use_true_random=False))
def test_the_order_of_the_readings_does_not_matter(readings: list[Reading], random: Random) -> None:
    shuffled = random.sample(readings, len(readings))
    np.testing.assert_allclose(choice_probabilities(shuffled), choice_probabilities(readings), rtol=1e-9)
    assert pick(choice_probabilities(shuffled)) == pick(choice_probabilities(readings))


@given(st.lists(logs, min_size=4, max_size=4))
def test_a_model_that_only_knows_positions_says_the_first(logprobs: list[float]) -> None:
    """Over all cyclic orders every choice gets the same; what rounding adds decides nothing."""
    cyclic = [reading(logprobs, [(letter + shift) % 4 for letter in range(4)]) for shift in range(4)]
    found = choice_probabilities(cyclic)
    np.testing.assert_allclose(found, 0.25)
    assert pick(found) == "A"


def test_how_much_the_letters_hold_together_does_not_matter() -> None:
    low, high = [-9.0, -8.0, -10.0], [-2.0, -1.0, -3.0]
    np.testing.assert_allclose(choice_probabilities([reading(low)]), choice_probabilities([reading(high)]))


def test_known_values() -> None:
    asked = reading([math.log(0.2), math.log(0.1), math.log(0.1)])
    np.testing.assert_allclose(choice_probabilities([asked]), [0.5, 0.25, 0.25])


def test_no_readings_have_no_probabilities() -> None:
    with pytest.raises(ValueError, match="no readings"):
        choice_probabilities([])


@pytest.mark.parametrize(
    ("probabilities", "letter"),
    [
        ([0.1, 0.9], "B"),
        ([0.5, 0.5], "A"),
        ([0.2, 0.4, 0.4], "B"),
        ([0.25, 0.25 + 1e-16, 0.25, 0.25], "A"),
        ([0.25 - 1e-8, 0.25 + 1e-8, 0.25, 0.25], "B"),
        ([1.0], "A"),
    ],
)
def test_the_likeliest_letter_and_of_equals_the_first(probabilities: list[float], letter: str) -> None:
    assert pick(probabilities) == letter


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_letter_that_is_not_finite_spoils_a_reading(value: float) -> None:
    assert is_finite(reading([-1.0, -2.0]))
    assert not is_finite(reading([-1.0, value]))


def test_the_margin_is_to_the_next_likeliest_choice() -> None:
    assert margin((0.2, 0.5, 0.3)) == pytest.approx(0.2)
    assert margin((1.0,)) == 1.0
