"""The letter prior: what a model likes to say is found without labels and taken out again."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.mcq import choice_probabilities, estimate, orders
from codemmlu.schema import Reading
from tests.support.rows import reading

LIKING = np.log([0.55, 0.25, 0.15, 0.05])


def biased(truth: np.ndarray, order: tuple[int, ...]) -> Reading:
    """A model that knows the truth (log-probabilities by choice) and likes some letters more than others."""
    return reading([float(truth[choice] + LIKING[letter]) for letter, choice in enumerate(order)], order)


def truths(count: int) -> list[np.ndarray]:
    """What is right, spread evenly over the letters."""
    drawn = np.random.default_rng(0).dirichlet(np.ones(4), size=count)
    return [np.log(row) for row in drawn]


def test_the_prior_of_a_biased_model_is_its_liking() -> None:
    prior = estimate([[biased(truth, order) for order in orders(4, "cyclic", "")] for truth in truths(2000)])
    found = np.exp(prior[4])
    assert found.sum() == pytest.approx(1)
    assert list(np.argsort(-found)) == [0, 1, 2, 3]
    assert found[0] > 0.4


def test_dividing_the_prior_out_answers_better() -> None:
    rows = truths(2000)
    readings = [[biased(truth, (0, 1, 2, 3))] for truth in rows]
    prior = estimate(readings)
    right = [int(truth.argmax()) for truth in rows]
    raw = [int(choice_probabilities(r).argmax()) for r in readings]
    calibrated = [int(choice_probabilities(r, prior[4]).argmax()) for r in readings]
    assert np.mean(np.equal(raw, right)) < 0.7 < np.mean(np.equal(calibrated, right))


def test_a_prior_of_few_questions_stays_near_the_uniform_one() -> None:
    one = estimate([[reading((-0.01, -6.0, -6.0, -6.0))]])
    assert math.exp(one[4][0]) < 0.4
    assert estimate([]) == {}


def test_each_number_of_choices_has_its_own() -> None:
    prior = estimate([[reading((-0.1, -2.0))], [reading((-2.0, -0.1, -2.0))]])
    assert set(prior) == {2, 3}
    assert prior[2][0] > prior[2][1]
    assert prior[3][1] > prior[3][0]


def test_a_question_counts_once_however_often_it_was_read() -> None:
    often = [[reading((-0.1, -3.0))] * 5, [reading((-3.0, -0.1))]]
    assert estimate(often)[2][0] == pytest.approx(estimate(often)[2][1])


@given(st.permutations(range(20)))
def test_the_order_of_arrival_changes_nothing(order: list[int]) -> None:
    rows = [[biased(truth, (0, 1, 2, 3))] for truth in truths(20)]
    assert estimate([rows[i] for i in order]) == estimate(rows)
