"""How the answer column is read: a letter however it is dressed, an index, a text, or nothing."""

from typing import Literal

import pytest

from codemmlu.dataset import Cleaner
from tests.support.asking import FOUR, asked


@pytest.mark.parametrize(
    ("written", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        (" B\n", "B"),
        ("ANSWER: B", "B"),
        ("ANSWER:  D", "D"),
        ("answer: b", "B"),
        ("Answer B", "B"),
        ("The correct answer is (C).", "C"),
        ("answer is A", "A"),
        ("Option C", "C"),
        ("choice: d", "D"),
        ("(b)", "B"),
        ("[a]", "A"),
        ("C.", "C"),
        ("C)", "C"),
        ("A:", "A"),
        ("**D**", "D"),
        ("**Answer:** C", "C"),
        ("`b`", "B"),
        ("'A'", "A"),
        (b"B", "B"),
        ("Ｂ", "B"),
        ("Ⓑ", "B"),
        ("option_b", "B"),
        ("Correct answer: Option B", "B"),
        (r"\boxed{C}", "C"),
        ("$D$", "D"),
        ("<b>D</b>", "D"),
        (["B"], "B"),
        ("B. x", "B"),
        ("(C) y", "C"),
    ],
)
def test_a_letter_is_read_however_it_is_dressed(written: object, letter: str) -> None:
    cleaner = Cleaner()
    assert asked({"choices": FOUR, "answer": written}, cleaner).answer == letter
    assert not cleaner.notes


@pytest.mark.parametrize("written", ["", "  ", "\n", None])
def test_a_blank_answer_is_unlabelled_and_not_worth_a_note(written: object) -> None:
    cleaner = Cleaner()
    assert asked({"choices": FOUR, "answer": written}, cleaner).answer is None
    assert not cleaner.notes


@pytest.mark.parametrize(
    "written",
    ["B or C", "A is right", "A, B", "AB", "answer", "option", "none", "?", "Answer: all of them", "ANSWER:"],
)
def test_an_unreadable_answer_is_unlabelled_and_said(written: str) -> None:
    cleaner = Cleaner()
    assert asked({"choices": FOUR, "answer": written}, cleaner).answer is None
    assert dict(cleaner.notes) == {"answers that are not the letter of one choice: unlabelled": 1}
    assert set(cleaner.first.values()) == {"quiz.csv:2"}


@pytest.mark.parametrize(("choices", "written"), [(FOUR, "E"), (FOUR, "ANSWER: Z"), (["yes", "no"], "c")])
def test_an_answer_out_of_range_is_unlabelled_and_said(choices: list[str], written: str) -> None:
    cleaner = Cleaner()
    assert asked({"choices": choices, "answer": written}, cleaner).answer is None
    letter = written[-1].upper()
    assert dict(cleaner.notes) == {f"answer {letter} of {len(choices)} choices: unlabelled": 1}


@pytest.mark.parametrize(
    ("form", "written", "letter"),
    [
        ("zero-based", "0", "A"),
        ("zero-based", 3, "D"),
        ("zero-based", " 1 ", "B"),
        ("zero-based", 2.0, "C"),
        ("zero-based", "4", None),
        ("zero-based", ["2"], "C"),
        ("zero-based", ["1", "2"], None),
        ("zero-based", "-1", None),
        ("zero-based", "1.5", None),
        ("zero-based", "B", None),
        ("one-based", "1", "A"),
        ("one-based", 4, "D"),
        ("one-based", "0", None),
        ("one-based", "5", None),
        ("text", "y", "C"),
        ("text", "Y", "C"),
        ("text", " y. ", "C"),
        ("text", "v", None),
    ],
)
def test_an_answer_by_index_or_text(
    form: Literal["zero-based", "one-based", "text"], written: object, letter: str | None
) -> None:
    cleaner = Cleaner(answers=form)
    assert asked({"choices": FOUR, "answer": written}, cleaner).answer == letter
    assert sum(cleaner.notes.values()) == (letter is None)


def test_a_text_that_two_choices_share_is_no_answer() -> None:
    cleaner = Cleaner(answers="text")
    assert asked({"choices": ["x", "x", "y"], "answer": "x"}, cleaner).answer is None
    assert asked({"task_id": "t2", "choices": ["x", "x", "y"], "answer": "y"}, cleaner).answer == "C"


@pytest.mark.parametrize(
    ("written", "letter", "note"),
    [
        ("C", None, "answers that are a letter and the text of another choice: unlabelled"),
        ("Java", "C", "answers that are the text of a choice: read as its letter"),
        ("java", "C", "answers that are the text of a choice: read as its letter"),
        ("R", "D", "answers that are the text of a choice: read as its letter"),
        ("A. Java", None, "answers that are not the letter of one choice: unlabelled"),
        (["A", "B"], None, "answers that name several choices: unlabelled"),
        (2, None, "answers that are numbers: unlabelled; set {section}.answers to zero-based or one-based"),
    ],
)
def test_a_letter_that_is_another_choice_is_no_label(written: object, letter: str | None, note: str) -> None:
    cleaner = Cleaner()
    assert asked({"choices": ["Python", "C", "Java", "R"], "answer": written}, cleaner).answer == letter
    assert dict(cleaner.notes) == {note: 1}
