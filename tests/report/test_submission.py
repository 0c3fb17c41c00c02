"""submission.csv: a line for every id of the source, in its order, that any CSV reader reads back."""

import csv
import io
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.report.submission import SubmissionForm, submission
from codemmlu.schema import Rejected
from tests.support.rows import verdict


def read(text: str) -> list[list[str]]:
    """The lines below the header."""
    head, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert head == ["task_id", "answer"]
    return lines


def rejected(task_id: str | None, position: int) -> Rejected:
    return Rejected(task_id, "no choices", "quiz.csv", position + 2, position)


def test_the_file_to_the_last_character() -> None:
    verdicts = [verdict("A", "t0", 0), verdict("B", "t2", 2), verdict(None, "t3", 3)]
    text, lines, blanks = submission(verdicts, [rejected("t1", 1)], SubmissionForm())
    assert lines == 4
    assert text == "task_id,answer\nt0,A\nt1,\nt2,B\nt3,\n"
    assert blanks == 2


def test_what_stands_for_no_answer_is_counted_as_blank() -> None:
    text, _, blanks = submission(
        [verdict(None, "t0", 0), verdict("A", "t1", 1)], [rejected("t2", 2)], SubmissionForm("E")
    )
    assert text == "task_id,answer\nt0,E\nt1,A\nt2,E\n"
    assert blanks == 2


def test_a_rejected_row_without_an_id_of_its_own_has_no_line() -> None:
    """One that had none, or one whose id stands at another line already: a grader refuses an id twice."""
    text, _, blanks = submission([verdict("A", "t0", 0)], [rejected(None, 1)], SubmissionForm())
    assert (read(text), blanks) == ([["t0", "A"]], 0)


def test_nothing_is_a_header() -> None:
    assert submission([], [], SubmissionForm()) == ("task_id,answer\n", 0, 0)


@pytest.mark.parametrize("odd", ["a,b", 'say "x"', "two\nlines", "cr\ronly", "crlf\r\n", " blank ", "é日", "'", "="])
def test_odd_ids_come_back(odd: str) -> None:
    text, _, _ = submission([verdict("A", odd, 0), verdict("B", "plain", 1)], [], SubmissionForm())
    assert read(text) == [[odd, "A"], ["plain", "B"]]
    assert text.endswith("plain,B\n")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), unique=True), st.text("E,\r\n\"' "))
def test_any_id_and_any_blank_come_back(ids: list[str], blank: str) -> None:
    verdicts = [verdict("A" if n % 2 else None, task_id, n) for n, task_id in enumerate(ids)]
    text, _, blanks = submission(verdicts, [], SubmissionForm(blank))
    assert read(text) == [[task_id, "A" if n % 2 else blank] for n, task_id in enumerate(ids)]
    assert blanks == (len(ids) + 1) // 2


def test_a_sample_gives_the_header_and_the_order() -> None:
    form = SubmissionForm("-", header=("ID", "Target"), ids=("t2", "t9", "t1", "t0"))
    verdicts = [verdict("A", "t0", 0), verdict("B", "t2", 2)]
    text, lines, blanks = submission(verdicts, [rejected("t1", 1)], form)
    assert (text, lines, blanks) == ("ID,Target\nt2,B\nt9,-\nt1,-\nt0,A\n", 4, 2)


def test_ranked_letters_begin_with_the_verdict() -> None:
    ranked = replace(verdict("B", "t0", 0), probabilities=(0.3, 0.2, 0.4, 0.1))
    text, _, _ = submission([ranked, verdict(None, "t1", 1)], [], SubmissionForm(letters=3))
    assert read(text) == [["t0", "B C A"], ["t1", ""]]
