"""Rows keep what they hold through arrow and back, and letters stop at Z."""

import math
import string

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.schema import (
    SCHEMAS,
    Answer,
    Question,
    Reading,
    Rejected,
    Row,
    Turn,
    answer_from,
    letters,
    question_from,
    to_table,
)
from tests.support.rows import answer, failed, question, reading, verdict, vote

texts = st.text(st.characters(exclude_categories=["Cs"]))


def test_letters_name_up_to_twenty_six_choices() -> None:
    assert letters(0) == ""
    assert letters(4) == "ABCD"
    assert letters(26) == string.ascii_uppercase


@pytest.mark.parametrize("n", [-1, 27])
def test_letters_refuse_what_the_alphabet_does_not_hold(n: int) -> None:
    with pytest.raises(ValueError, match=str(n)):
        letters(n)


@given(
    st.builds(
        Question,
        task_id=texts,
        subject=st.none() | texts,
        question=texts,
        choices=st.lists(texts, min_size=2, max_size=26).map(tuple),
        answer=st.none() | st.sampled_from("ABCD"),
        file=texts,
        line=st.integers(0, 2**40),
        position=st.integers(0, 2**40),
    )
)
def test_a_question_comes_back_as_it_was(row: Question) -> None:
    assert question_from(to_table([row], Question).to_pylist()[0]) == row


def test_a_question_is_read_from_a_table_with_more_columns() -> None:
    row = question("t1")
    wide = to_table([row], Question).append_column("asks", pa.array([["direct-0"]]))
    assert question_from(wide.to_pylist()[0]) == row


# float32 on disk: values that it holds exactly come back exactly, the others within its precision.
half = st.integers(-400, 0).map(lambda n: n / 4)
readings = st.builds(
    Reading,
    order=st.permutations(range(4)).map(tuple),
    logprobs=st.lists(half, min_size=4, max_size=4).map(tuple),
    mass=st.sampled_from([0.0, 0.5, 1.0]),
    prompt_tokens=st.integers(0, 2**31 - 1),
    cached_tokens=st.integers(0, 2**31 - 1),
)
turns = st.builds(Turn, kind=texts, letter=st.none() | texts, p_true=st.none() | half, text=texts, found=texts)


@given(st.lists(readings, max_size=3).map(tuple), st.lists(turns, max_size=2).map(tuple), st.none() | texts)
def test_an_answer_comes_back_as_it_was(some: tuple[Reading, ...], talk: tuple[Turn, ...], error: str | None) -> None:
    row = answer(question("t1"), readings=some, turns=talk, error=error)
    assert answer_from(to_table([row], Answer).to_pylist()[0]) == row


def test_a_reading_that_is_not_finite_is_kept_as_it_was_read() -> None:
    row = answer(question("t1"), readings=(reading((-math.inf, math.nan, math.inf, -1.0)),))
    back = answer_from(to_table([row], Answer).to_pylist()[0]).readings[0].logprobs
    assert back[0] == -math.inf
    assert math.isnan(back[1])
    assert back[2:] == (math.inf, -1.0)


@pytest.mark.parametrize(
    "row",
    [
        question("t1"),
        Rejected(None, "no question text", "quiz.csv", 3),
        answer(question("t1")),
        failed(question("t1")),
        vote("B", (0.1, 0.9)),
        vote(None, status="abstained"),
        verdict(None),
    ],
)
def test_every_table_says_which_version_wrote_it(row: Row) -> None:
    table = to_table([row], type(row))
    assert table.schema.metadata[b"codemmlu.schema"] == b"3"
    assert table.schema.equals(SCHEMAS[type(row)], check_metadata=True)
    assert to_table([], type(row)).schema.equals(table.schema, check_metadata=True)
