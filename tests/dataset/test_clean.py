"""The cleaning rules, case by case."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import Cleaner, Record
from codemmlu.schema import QUESTION, Question, Rejected, letters, to_table
from tests.support.asking import FOUR, asked, clean, refused


@pytest.mark.parametrize(
    ("written", "choices"),
    [
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("('a', 'b')", ["a", "b"]),
        ("  ['a',\n 'b']\n", ["a", "b"]),
        (r"['\n', '\\d']", ["\n", "\\d"]),
        (r"['\d', '\w']", ["\\d", "\\w"]),  # Python keeps an escape it does not know
        ('["it\'s", "don\'t"]', ["it's", "don't"]),
        (json.dumps(["😀", "\x00é"]), ["😀", "\x00é"]),
        (repr(["😀", "\x00\u200bé"]), ["😀", "\x00\u200bé"]),
        (r'["a\/b", "c"]', ["a/b", "c"]),
        ("[1, 2.50, 1e3]", ["1", "2.50", "1e3"]),
        ("[true, null]", ["true", ""]),
        ("[True, None, 'x']", ["True", "None", "x"]),
        ("[0x1F, 1_000, 1.50, -2, 'x']", ["0x1F", "1_000", "1.50", "-2", "x"]),
        ("['', 'b']", ["", "b"]),
        (["a", True, False], ["a", "true", "false"]),
        ("[NaN, Infinity]", ["NaN", "Infinity"]),
        ("['', ' ']", ["", " "]),
        (["a", None, 3], ["a", "", "3"]),
        (("a", "b"), ["a", "b"]),
        ([b"a", "caf\u00e9".encode()], ["a", "caf\u00e9"]),
        (["same", "same"], ["same", "same"]),
        ([" a ", "\tb\r\n"], [" a ", "\tb\r\n"]),
        (list(letters(26)), list(letters(26))),
    ],
)
def test_choices_are_read_however_they_are_written(written: object, choices: list[str]) -> None:
    assert list(asked({"choices": written}).choices) == choices


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ([], "0 choices, where 2 to 26 can be asked"),
        ("[]", "0 choices, where 2 to 26 can be asked"),
        (["only"], "1 choice, where 2 to 26 can be asked"),
        ("['']", "1 choice, where 2 to 26 can be asked"),
        ([str(n) for n in range(27)], "27 choices, where 2 to 26 can be asked"),
        (None, "no choices"),
        ("", "no choices"),
        ("None", "no choices"),
        ("a, b, c", "choices cannot be read as a list"),
        ("['a' 'b', 'c', 'd']", "choices lack a comma between two strings"),
        ("['a'\n 'b']", "choices lack a comma between two strings"),
        ("['a', 'b'", "choices cannot be read as a list"),
        ("[" * 100_000, "choices cannot be read as a list"),
        ("'ab'", "choices are not a list but str"),
        ("7", "choices are not a list but str"),
        ({"A": "x"}, "1 choice, where 2 to 26 can be asked"),
        ({"first": "x", "second": "y"}, "choices are an object without texts"),
        ("{'A': 'x', 'C': 'y'}", "choices are an object without texts"),
        ("[['a'], ['b']]", "choices hold a list inside the list"),
        ([["a", "b"]], "choices hold a list inside the list"),
    ],
)
def test_choices_that_cannot_be_asked_are_rejected(written: object, reason: str) -> None:
    row = refused({"choices": written})
    assert replace(row, reason=row.reason.partition(": its columns")[0]) == Rejected("t1", reason, "quiz.csv", 2, 0)


def test_choices_are_never_evaluated(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    for code in (f"__import__('os').system('touch {trap}')", f"[open({str(trap)!r}, 'w'), 'b']", "[x for x in 'ab']"):
        assert refused({"choices": code}).reason == "choices cannot be read as a list"
    assert not trap.exists()


@pytest.mark.parametrize(
    ("columns", "choices"),
    [
        (dict(zip("ABCD", FOUR, strict=True)), FOUR),
        ({"D": "z", "B": "x", "A": "w", "C": "y"}, FOUR),
        ({"option_a": "w", "option_b": "x"}, ["w", "x"]),
        ({"Choice A": "w", "Choice B": "x"}, ["w", "x"]),
        ({"choice_1": "w", "choice_2": "x", "choice_10": "z", "choice_3": "y"}, FOUR),
        ({"option0": "w", "option1": "x"}, ["w", "x"]),
        ({"A": "w", "B": "x", "C": "", "D": None}, ["w", "x"]),
        ({"A": 1, "B": 2.5, "C": " ", "D": "\u00a0"}, ["1", "2.5"]),
        ({name: name for name in letters(26)}, list(letters(26))),
        ({"options": FOUR}, FOUR),
        ({"options": "['w', 'x']", "A": "other"}, ["w", "x"]),
        ({"option_a": "w", "option_b": "x", "options": "see above"}, ["w", "x"]),
        ({f"option_{name}": name for name in letters(26)}, list(letters(26))),
    ],
)
def test_options_may_have_a_column_each(columns: dict[str, Any], choices: list[str]) -> None:
    assert list(asked(columns).choices) == choices


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"A": "w", "B": "", "C": "y"}, "an empty option column before a filled one"),
        ({"A": None, "B": "x"}, "an empty option column before a filled one"),
        ({"A": "w", "B": ""}, "1 choice, where 2 to 26 can be asked"),
        ({"A": "", "B": ""}, "0 choices, where 2 to 26 can be asked"),
        ({"topic": "x"}, "no choices"),
        ({f"choice_{n}": "x" for n in range(27)}, "27 choices, where 2 to 26 can be asked"),
        (
            {"option_a": "w", "option_b": "x", "option_d": "z"},
            "option columns with a letter left out: option_a, option_b, option_d",
        ),
        ({"option_a": "w", "optiona": "x"}, "two columns for one option: option_a, optiona"),
        ({"option_1": "w", "option_a": "x"}, "option columns with letters and with numbers"),
        (
            {"A": "w", "B": "x", "Answer": "A", "answer": "B"},
            "two fields of one name: 'answer', in upper and in lower case",
        ),
    ],
)
def test_option_columns_that_cannot_be_asked_are_rejected(columns: dict[str, Any], reason: str) -> None:
    assert refused(columns).reason.partition(": its columns")[0] == reason


def test_an_answer_at_a_trailing_empty_option_is_no_label() -> None:
    assert asked({"A": "w", "B": "x", "C": "", "answer": "C"}).answer is None


@pytest.mark.parametrize(
    ("choices", "answer", "letter"),
    [
        (["True", "False"], True, "A"),
        ([True, False], "False", "B"),
        (["true", "True"], "True", "B"),
        (["x", "y"], True, None),
    ],
)
def test_truth_is_the_same_text_however_it_is_written(
    choices: list[object], answer: object, letter: str | None
) -> None:
    assert asked({"choices": choices, "answer": answer}, Cleaner(answers="text")).answer == letter


@pytest.mark.parametrize("question", ["", " \n", None])
def test_a_row_without_question_text_is_rejected(question: object) -> None:
    reason = refused({"question": question, "choices": FOUR}).reason
    assert reason == "no question text: its columns are task_id, question, choices"


def test_names_of_columns_may_be_in_upper_case() -> None:
    record = Record(
        "q.csv", 2, {"Task_ID": "7", "QUESTION": "Q", "Choices": "['a', 'b']", "Answer": "b", "SUBJECT": "s"}
    )
    assert Cleaner().clean(record) == Question("7", "s", "Q", ("a", "b"), "B", "q.csv", 2, 0)


def test_id_is_a_task_id() -> None:
    record = Record("q.csv", 2, {"id": 7, "question": "Q", "choices": ["a", "b"]})
    row = Cleaner().clean(record)
    assert isinstance(row, Question)
    assert row.task_id == "7"


def test_a_mapped_column_goes_before_one_of_our_name() -> None:
    cleaner = Cleaner(columns={"question": "Stem", "answer": "A", "task_id": "key"})
    row = asked({"question": "not this", "stem": "this", "a": "b", "KEY": "k", "choices": FOUR}, cleaner)
    assert (row.task_id, row.question, row.answer, row.choices) == ("k", "this", "B", tuple(FOUR))
    assert not cleaner.notes


def test_a_mapped_column_that_is_not_there_is_said() -> None:
    cleaner = Cleaner(columns={"answer": "solution"})
    assert asked({"choices": FOUR}, cleaner).answer is None
    assert list(cleaner.notes) == ["rows without the column 'solution' of {section}.columns.answer"]


def test_the_problem_description_goes_before_the_question() -> None:
    assert asked({"choices": FOUR, "problem_description": "Sum a list."}).question == "Sum a list.\n\nWhich?"
    assert asked({"choices": FOUR, "problem_description": ""}).question == "Which?"
    assert asked({"choices": FOUR, "problem_description": "Sum.", "question": None}).question == "Sum."


def test_a_repeated_task_id_is_rejected_and_names_the_first() -> None:
    cleaner = Cleaner()
    asked({"choices": FOUR}, cleaner, line=2)
    row = refused({"choices": FOUR, "task_id": " t1 "}, cleaner, line=9)
    assert row == Rejected(None, "repeated task_id: t1 stands at quiz.csv:2 already", "quiz.csv", 9, 1)
    refused({"choices": FOUR}, cleaner, line=12)
    assert dict(cleaner.notes) == {"rejected: repeated task_id": 2}
    assert cleaner.first["rejected: repeated task_id"] == "quiz.csv:9"


def test_a_rejected_row_claims_no_task_id() -> None:
    cleaner = Cleaner()
    assert refused({"choices": []}, cleaner).task_id == "t1"
    assert asked({"choices": FOUR}, cleaner).task_id == "t1"


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_a_row_without_a_task_id_is_named_after_its_place(missing: object) -> None:
    cleaner = Cleaner()
    assert asked({"task_id": missing, "choices": FOUR}, cleaner, line=5).task_id == "quiz.csv:5"
    assert list(cleaner.notes) == ["rows without a task_id are named after their place"]
    assert refused({"task_id": missing, "choices": []}, cleaner).task_id is None


def test_rows_named_after_their_place_never_share_a_name() -> None:
    cleaner = Cleaner()
    fields = {"question": "Q", "choices": FOUR}
    rows = [cleaner.clean(Record(file, 1, fields)) for file in ("x/test.csv", "y/test.csv", "z/test.csv")]
    names = [row.task_id for row in rows if isinstance(row, Question)]
    assert names == ["test.csv:1", "y/test.csv:1", "z/test.csv:1"]


def test_positions_count_every_row() -> None:
    cleaner = Cleaner(subjects=("sql",))
    rows = [
        clean({"task_id": "a", "choices": FOUR, "subject": "sql"}, cleaner),
        clean({"task_id": "b", "choices": FOUR, "subject": "c"}, cleaner),
        cleaner.clean(Record("quiz.csv", 4, {}, fault="not JSON: because")),
        clean({"task_id": "d", "choices": [], "subject": "c"}, cleaner),
        clean({"task_id": "e", "choices": FOUR, "subject": " sql "}, cleaner),
    ]
    assert [row and row.position for row in rows] == [0, None, 2, None, 4]
    assert dict(cleaner.notes) == {"rejected: not JSON": 1}
    assert cleaner.subjects == {"sql", "c"}


def test_lone_surrogates_are_replaced_and_can_be_stored() -> None:
    cleaner = Cleaner(answers="text")
    row = asked({"question": "a\ud800b", "choices": ["\udfff", "😀"], "answer": "\udfff", "subject": "\ud801"}, cleaner)
    assert (row.question, row.choices, row.answer, row.subject) == ("a\ufffdb", ("\ufffd", "😀"), "A", "\ufffd")
    assert cleaner.notes["lone surrogates became U+FFFD"] == 3
    assert to_table([row], Question).schema.equals(QUESTION)


def test_bytes_that_are_no_utf8_still_give_a_row() -> None:
    assert asked({"question": b"caf\xe9 \xc3\xa9", "choices": FOUR}).question == "caf\ufffd \u00e9"
