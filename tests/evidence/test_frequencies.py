"""Frequencies: shares of right choices, shrunk to what is more general, and never certain."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.evidence.frequencies import Feature, Frequencies, count

YES, NO = ("yes", "yes in detail"), ("no", "no in detail")


def test_what_was_right_more_often_is_likelier() -> None:
    learnt = count([((YES, NO), 0)] * 9 + [((YES, NO), 1)])
    first, second = learnt.probabilities((YES, NO))
    assert first > 0.8 > 0.2 > second


def test_an_unknown_feature_is_chance() -> None:
    assert count([]).probabilities((YES, NO)) == pytest.approx([0.5, 0.5])


def test_an_unknown_detail_is_as_its_general_level() -> None:
    learnt = count([((YES, NO), 0)] * 9)
    assert learnt.probabilities((("yes", "other"), ("no", "other")))[0] > 0.8


def test_a_question_without_evidence_counts_nothing() -> None:
    assert count([(None, 0)]) == Frequencies()


@given(st.lists(st.tuples(st.permutations([YES, NO, ("maybe", "so")]), st.integers(0, 2)), min_size=1, max_size=30))
def test_an_example_is_judged_by_the_others_alone(rows: list[tuple[list[Feature], int]]) -> None:
    (own, answer), *others = rows
    learnt = count(rows)
    assert learnt.probabilities(own, answer) == pytest.approx(count(others).probabilities(own))
    assert learnt == count(rows)  # It is back in the counts.
    assert learnt.probabilities(own).sum() == pytest.approx(1)
    assert (learnt.probabilities(own) > 0).all()
