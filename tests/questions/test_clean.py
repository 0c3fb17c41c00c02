"""The cleaning rules, case by case, and that any text comes back as it was written."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codemmlu.questions import Cleaner, Record, load
from codemmlu.recipe import QuestionSettings
from codemmlu.rows import QUESTION, Question, Rejected, letters, to_table

FOUR = ["w", "x", "y", "z"]
Answers = Literal["letter", "zero-based", "one-based", "text"]


def clean(fields: dict[str, Any], cleaner: Cleaner | None = None, line: int = 2) -> Question | Rejected | None:
    """One row with a task_id and a question, where `fields` does not say otherwise."""
    given = {"task_id": "t1", "question": "Which?", **fields}
    return (cleaner or Cleaner()).clean(Record("quiz.csv", line, given))


def asked(fields: dict[str, Any], cleaner: Cleaner | None = None, line: int = 2) -> Question:
    row = clean(fields, cleaner, line)
    assert isinstance(row, Question), row
    return row


def refused(fields: dict[str, Any], cleaner: Cleaner | None = None, line: int = 2) -> Rejected:
    row = clean(fields, cleaner, line)
    assert isinstance(row, Rejected), row
    return row


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
    ["B or C", "A is right", "A, B", "AB", "answer", "option", "none", "?", "1", "Answer: all of them", "ANSWER:"],
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
        ("zero-based", "-1", None),
        ("zero-based", "1.5", None),
        ("zero-based", "B", None),
        ("one-based", "1", "A"),
        ("one-based", 4, "D"),
        ("one-based", "0", None),
        ("one-based", "5", None),
        ("text", "y", "C"),
        ("text", "Y", None),
        ("text", "v", None),
    ],
)
def test_an_answer_by_index_or_text(form: Answers, written: object, letter: str | None) -> None:
    cleaner = Cleaner(answers=form)
    assert asked({"choices": FOUR, "answer": written}, cleaner).answer == letter
    assert sum(cleaner.notes.values()) == (letter is None)


def test_a_text_that_two_choices_share_is_no_answer() -> None:
    cleaner = Cleaner(answers="text")
    assert asked({"choices": ["x", "x", "y"], "answer": "x"}, cleaner).answer is None
    assert asked({"task_id": "t2", "choices": ["x", "x", "y"], "answer": "y"}, cleaner).answer == "C"


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
        ("[true, null]", ["True", ""]),
        ("[True, None, 'x']", ["True", "", "x"]),
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
def test_choices_as_they_may_be_written(written: object, choices: list[str]) -> None:
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
        ("['a', 'b'", "choices cannot be read as a list"),
        ("[" * 100_000, "choices cannot be read as a list"),
        ("'ab'", "choices are not a list but str"),
        ("7", "choices are not a list but str"),
        ({"A": "x"}, "choices are not a list but dict"),
        ("{'A': 'x', 'B': 'y'}", "choices are not a list but dict"),
        ("[['a'], ['b']]", "choices hold a list inside the list"),
        ([["a", "b"]], "choices hold a list inside the list"),
    ],
)
def test_choices_that_cannot_be_asked(written: object, reason: str) -> None:
    assert refused({"choices": written}) == Rejected("t1", reason, "quiz.csv", 2, 0)


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
        ({"A": 1, "B": 2.5, "C": " "}, ["1", "2.5", " "]),
        ({name: name for name in letters(26)}, list(letters(26))),
    ],
)
def test_one_column_per_option(columns: dict[str, Any], choices: list[str]) -> None:
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
    ],
)
def test_option_columns_that_cannot_be_asked(columns: dict[str, Any], reason: str) -> None:
    assert refused(columns).reason == reason


def test_an_answer_that_points_at_a_trailing_empty_option_is_unlabelled() -> None:
    assert asked({"A": "w", "B": "x", "C": "", "answer": "C"}).answer is None


@pytest.mark.parametrize("question", ["", " \n", None])
def test_no_question_text(question: object) -> None:
    assert refused({"question": question, "choices": FOUR}).reason == "no question text"


def test_names_of_columns_in_upper_case() -> None:
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
    assert list(cleaner.notes) == ["rows without the column 'solution' of questions.columns.answer"]


def test_the_problem_description_goes_before_the_question() -> None:
    assert asked({"choices": FOUR, "problem_description": "Sum a list."}).question == "Sum a list.\n\nWhich?"
    assert asked({"choices": FOUR, "problem_description": ""}).question == "Which?"
    assert asked({"choices": FOUR, "problem_description": "Sum.", "question": None}).question == "Sum."


def test_a_repeated_task_id_is_rejected_with_the_place_of_the_first() -> None:
    cleaner = Cleaner()
    asked({"choices": FOUR}, cleaner, line=2)
    row = refused({"choices": FOUR, "task_id": " t1 "}, cleaner, line=9)
    assert row == Rejected(None, "repeated task_id: t1 stands at quiz.csv:2 already", "quiz.csv", 9, 1)
    refused({"choices": FOUR}, cleaner, line=12)
    assert dict(cleaner.notes) == {"rejected: repeated task_id": 2}
    assert cleaner.first["rejected: repeated task_id"] == "quiz.csv:9"


def test_a_task_id_counts_as_seen_even_if_its_row_was_rejected() -> None:
    cleaner = Cleaner()
    assert refused({"choices": []}, cleaner).task_id == "t1"
    assert refused({"choices": FOUR}, cleaner).task_id is None


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


def test_lone_surrogates_become_replacement_characters_and_the_row_can_be_stored() -> None:
    cleaner = Cleaner(answers="text")
    row = asked({"question": "a\ud800b", "choices": ["\udfff", "😀"], "answer": "\udfff", "subject": "\ud801"}, cleaner)
    assert (row.question, row.choices, row.answer, row.subject) == ("a\ufffdb", ("\ufffd", "😀"), "A", "\ufffd")
    assert cleaner.notes["lone surrogates became U+FFFD"] == 4
    assert to_table([row], Question).schema.equals(QUESTION)


def test_bytes_that_are_no_utf8_still_give_a_row() -> None:
    assert asked({"question": b"caf\xe9 \xc3\xa9", "choices": FOUR}).question == "caf\ufffd \u00e9"


# Any text: code points of every plane, with those a CSV or a prompt template could trip over drawn more often.
TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("{}[]\"',;\\\0\n\r\t\ufeff\u2028\x85😀"))
)
FILLED = TEXT.filter(lambda text: bool(text.strip()))
ROWS = st.lists(st.tuples(FILLED, st.lists(TEXT, min_size=2, max_size=5)), min_size=1, max_size=4)
Rows = Sequence[tuple[str, list[str]]]


def write_csv(rows: Rows, path: Path) -> list[int]:
    """A file as Kaggle's, choices as Python or JSON lists; the first physical line of each row."""
    lines = []
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["task_id", "question", "choices", "answer"])
        for number, (question, choices) in enumerate(rows):
            file.flush()
            lines.append(path.read_bytes().count(b"\n") + 1)
            listed = json.dumps(choices) if number % 2 else repr(choices)
            writer.writerow([f"k{number}", question, listed, letters(len(choices))[-1]])
    return lines


def write_jsonl(rows: Rows, path: Path) -> list[int]:
    with path.open("w", newline="", encoding="utf-8") as file:
        for number, (question, choices) in enumerate(rows):
            row = {"task_id": f"k{number}", "question": question, "choices": choices, "answer": len(choices)}
            file.write(json.dumps(row, ensure_ascii=number % 2 == 0) + "\n")
    return [number + 1 for number in range(len(rows))]


def write_parquet(rows: Rows, path: Path) -> list[int]:
    fields = [
        {"task_id": f"k{number}", "question": question, "choices": choices, "answer": choices[0]}
        for number, (question, choices) in enumerate(rows)
    ]
    pq.write_table(pa.Table.from_pylist(fields), path)
    return [number + 1 for number in range(len(rows))]


@pytest.mark.parametrize(
    ("ending", "write", "answers"),
    [(".csv", write_csv, "letter"), (".jsonl", write_jsonl, "one-based"), (".parquet", write_parquet, "text")],
)
@given(rows=ROWS)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_it_was_written(
    tmp_path: Path, ending: str, write: Callable[[Rows, Path], list[int]], answers: Answers, rows: Rows
) -> None:
    path = tmp_path / f"quiz{ending}"
    lines = write(rows, path)
    read = list(load(QuestionSettings(source=str(path), answers=answers)).rows())
    assert [row.line for row in read] == lines
    for row, (question, choices) in zip(read, rows, strict=True):
        assert isinstance(row, Question)
        assert row.question == question
        assert list(row.choices) == choices
        if answers == "text":
            assert row.answer == ("A" if choices[0].strip() and choices.count(choices[0]) == 1 else None)
        else:
            assert row.answer == letters(len(choices))[-1]
