"""Question files in the shapes that people have: what is asked, and what is said about it."""

import bz2
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codemmlu.schema import Question, Rejected
from tests.support.asking import loaded, mistake, questions, write

Row = dict[str, Any]
AB = ("a", "b")


@dataclass(frozen=True)
class Case:
    """A file, and what comes of it.

    asked: the question, the choices and the answer of each row that is asked
    said: parts of the notes
    """

    text: str | list[Row]
    asked: list[tuple[str, tuple[str, ...], str | None]]
    said: tuple[str, ...] = ()
    settings: Row = field(default_factory=dict)
    ending: str = "csv"


ZERO = {"answers": "zero-based"}
CASES: dict[str, Case] = {
    "RACE": Case(
        [{"article": "Tom went to Rome.", "question": "Where?", "options": ["Oslo", "Rome"], "answer": "B"}],
        [("Tom went to Rome.\n\nWhere?", ("Oslo", "Rome"), "B")],
        ("columns put before the question: article",),
    ),
    "AGIEval": Case(
        [{"passage": None, "question": "Who?", "options": ["(A)Ann", "(B)Cy"], "label": "A", "answer": None, "o": 1}],
        [("Who?", ("(A)Ann", "(B)Cy"), "A")],
        ("columns that are not used: o",),
    ),
    "COPA": Case(
        [{"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "question": "effect", "label": 0, "idx": 3}],
        [("It rained.\n\nWhat happened as a result?", ("Wet.", "Dry."), "A")],
        ("columns that are not used: idx",),
        ZERO,
    ),
    "a hint may hold the answer": Case(
        [{"question": "Q", "choices": AB, "hint": "It is b.", "answer": "B"}],
        [("Q", AB, "B")],
        ("columns that are not used: hint",),
    ),
    "a mapped hint": Case(
        [{"question": "Q", "choices": AB, "hint": "It is b.", "code": "x = 1", "answer": "B"}],
        [("It is b.\n\nx = 1\n\nQ", AB, "B")],
        ("columns put before the question: hint, code",),
        {"columns": {"context": ["hint", "code"]}},
    ),
    "MMLU": Case([{"question": "Q", "subject": "law", "choices": AB, "answer": 1}], [("Q", AB, "B")], (), ZERO),
    "MMLU-Pro": Case(
        [{"question_id": 7, "question": "Q", "options": AB, "answer": "B", "answer_index": 1, "category": "law"}],
        [("Q", AB, "B")],
        ("columns that are not used: question_id",),
    ),
    "ARC": Case(
        [{"id": "m", "question": "Q", "choices": {"text": AB, "label": ["1", "2"]}, "answerKey": "2"}],
        [("Q", AB, "B")],
    ),
    "ARC as published": Case(
        [
            {
                "id": "m",
                "question": {"stem": "Q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]},
                "answerKey": "B",
            }
        ],
        [("Q", AB, "B")],
    ),
    "a list of objects": Case(
        [{"question": "Q", "choices": [{"label": "A", "text": "a"}, {"label": "B", "text": "b"}], "answer": "b"}],
        [("Q", AB, "B")],
    ),
    "OpenBookQA": Case(
        [{"id": "1", "question_stem": "Q", "choices": {"label": ["A", "B"], "text": AB}, "answerKey": "A"}],
        [("Q", AB, "A")],
    ),
    "HellaSwag": Case(
        [{"ctx_a": "x", "ctx_b": "y", "ctx": "x y", "endings": AB, "label": label} for label in "01"],
        [("x y", AB, "A"), ("x y", AB, "B")],
        ("columns that are not used: ctx_a, ctx_b",),
        ZERO,
    ),
    "MedMCQA": Case(
        [{"id": str(n), "question": "Q", "opa": "a", "opb": "b", "cop": n, "exp": "why"} for n in (0, 1)],
        [("Q", AB, "A"), ("Q", AB, "B")],
        ("columns that are not used: exp",),
        ZERO,
    ),
    "MedMCQA, mapped": Case(
        [{"question": "Q", "first": "a", "second": "b", "key": n} for n in (0, 1)],
        [("Q", AB, "A"), ("Q", AB, "B")],
        (),
        ZERO | {"columns": {"choices": ["first", "second"], "answer": "key"}},
    ),
    "MedQA": Case(
        [{"question": "Q", "answer": "b", "options": {"A": "a", "B": "b"}, "answer_idx": "B"}],
        [("Q", AB, "B")],
    ),
    "PIQA": Case([{"goal": "Q", "sol1": "a", "sol2": "b", "label": 0}], [("Q", AB, "A")], (), ZERO),
    "BIG-bench": Case(
        [{"inputs": "Q", "targets": ["four"], "multiple_choice_targets": ["three", "four"], "idx": 0}],
        [("Q", ("three", "four"), "B")],
        ("answers that are the text of a choice",),
    ),
    "TruthfulQA": Case(
        [{"question": "Q", "mc1_targets": {"choices": ["a", "b", "c"], "labels": [0, 1, 0]}}],
        [("Q", ("a", "b", "c"), "B")],
    ),
    "chat messages": Case(
        [{"question": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}], "choices": AB}],
        [("S\n\nQ", AB, None)],
    ),
    "an id where task_id is empty": Case("task_id,id,question,A,B\n,7,Q,a,b\n", [("Q", AB, None)]),
    "choices that are null beside columns": Case(
        [{"question": "Q", "choices": None, "A": "a", "B": "b"}, {"question": "R", "choices": AB, "A": None}],
        [("Q", AB, None), ("R", AB, None)],
    ),
    "options in brackets": Case("question,Option (A),Option (B),answer\nQ,a,b,B\n", [("Q", AB, "B")]),
    "blank cells at the end": Case("question,A,B,C,D,answer\nQ,a,b, ,\u00a0,A\n", [("Q", AB, "A")]),
    "blanks before quotes": Case(
        'question, A, B\nQ, "a, or so", "b"\n', [("Q", ("a, or so", "b"), None)], ("a blank before quoted fields",)
    ),
    "a blank and a quote in quotes": Case('question,A,B\nQ," ""a""", b\n', [("Q", (' "a"', " b"), None)]),
    "a header in the middle": Case(
        "question,A,B,answer\nQ,a,b,B\nquestion,A,B,answer\nR,a,b,A\n",
        [("Q", AB, "B"), ("R", AB, "A")],
        ("1 x lines that repeat the header: passed over",),
    ),
    "semicolons": Case(
        "question;A;B;answer\r\nQ, or R;a;b;B\r\n", [("Q, or R", AB, "B")], ("separated by semicolons",)
    ),
    "tabs": Case("question\tA\tB\nQ, or R\ta\tb\n", [("Q, or R", AB, None)], ("separated by tabs",), {}, "tsv"),
    "carriage returns": Case(
        "question,A,B,answer\rQ,a,b,B\rR,a,b,A\r", [("Q", AB, "B"), ("R", AB, "A")], ("carriage return alone",)
    ),
    "None in a list of Python": Case(
        "question,choices,answer\nQ,\"[1, None, 'x']\",B\n", [("Q", ("1", "None", "x"), "B")]
    ),
    "LaTeX with single backslashes": Case(
        "question,choices\nQ,\"['$\\frac{1}{2}$', '\\nu']\"\n",
        [("Q", ("$\x0crac{1}{2}$", "\nu"), None)],
        ("questions.escapes=keep takes them as written",),
    ),
    "LaTeX in JSON": Case(
        '{"question": "What is $\\frac{1}{2}$?", "choices": ["a", "b"]}\n',
        [("What is $\x0crac{1}{2}$?", AB, None)],
        ("texts with a control character",),
        {},
        "jsonl",
    ),
    "letters before the choices": Case(
        "question,A,B\nQ,(A) a,(B) b\n", [("Q", ("(A) a", "(B) b"), None)], ("left out of the prompt",)
    ),
    "LaTeX as written": Case(
        "question,choices\nQ,\"['$\\frac{1}{2}$', 'it\\'s \\nu']\"\n",
        [("Q", ("$\\frac{1}{2}$", "it's \\nu"), None)],
        (),
        {"escapes": "keep"},
    ),
    "line feeds of code are no doubt": Case(
        'question,choices\nQ,"[\'x = 1\\nreturn x\', \'print(""a\\n"")\']"\n',
        [("Q", ("x = 1\nreturn x", 'print("a\n")'), None)],
    ),
    "numbers without quotes": Case(
        'question,choices\nQ,"1, 2, 3"\nR,"3.14, 2.71"\n', [("Q", ("1", "2", "3"), None), ("R", ("3.14", "2.71"), None)]
    ),
    "a JSON array": Case(
        json.dumps([{"question": "Q", "choices": AB}, {"question": "R", "choices": AB}], indent=1),
        [("Q", AB, None), ("R", AB, None)],
        (),
        {},
        "json",
    ),
    "an array in .jsonl": Case(
        json.dumps([{"question": "Q", "choices": AB}], indent=1), [("Q", AB, None)], (), {}, "jsonl"
    ),
    "an object that holds the rows": Case(
        json.dumps({"version": "1", "data": [{"question": "Q", "choices": AB}]}), [("Q", AB, None)], (), {}, "json"
    ),
    "objects over several lines": Case(
        "\n".join(json.dumps({"question": name, "choices": AB}, indent=1) for name in "QR"),
        [("Q", AB, None), ("R", AB, None)],
        (),
        {},
        "jsonl",
    ),
    "text that differs in blanks and case": Case(
        "question,A,B,answer\nQ,Rome,Oslo, rome\nR,Rome,Oslo,Oslo.\n",
        [("Q", ("Rome", "Oslo"), "A"), ("R", ("Rome", "Oslo"), "B")],
        (),
        {"answers": "text"},
    ),
    "one-based answers read as zero-based": Case(
        [{"question": "Q", "choices": AB, "answer": n} for n in (1, 2)],
        [("Q", AB, None), ("Q", AB, None)],
        ("answers of which none is 0: no label is used", "set questions.answers=one-based"),
        ZERO,
    ),
    "zero-based answers read as one-based": Case(
        [{"question": "Q", "choices": ["a", "b", "c"], "answer": n} for n in (0, 1)],
        [("Q", ("a", "b", "c"), None)] * 2,
        ("no label is used", "set questions.answers=zero-based"),
        {"answers": "one-based"},
    ),
}


def content(case: Case) -> tuple[str, str]:
    """Return the ending and the text of a case's file."""
    if isinstance(case.text, str):
        return case.ending, case.text
    return "jsonl", "".join(json.dumps(row) + "\n" for row in case.text)


@pytest.mark.parametrize("name", CASES)
def test_a_shape_is_read(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    ending, text = content(case)
    stream, rows = loaded(write(tmp_path / f"quiz.{ending}", text), **case.settings)
    assert [(row.question, row.choices, row.answer) for row in rows if isinstance(row, Question)] == case.asked
    assert len(rows) == len(case.asked)
    notes = "\n".join(stream.notes())
    for part in case.said:
        assert part in notes
    if not case.said:
        assert "escapes" not in notes


@pytest.mark.parametrize("columns", [("correct_answer", "distractor1"), ("Correct Answer", "Incorrect Answer 1")])
def test_right_and_wrong_choices_apart_are_shuffled(tmp_path: Path, columns: tuple[str, str]) -> None:
    """SciQ and GPQA: the right choice is not always first, and the order is the same in every run."""
    right, wrong = columns
    rows = [{"question": f"Q{n}", right: f"right {n}", wrong: f"wrong {n}"} for n in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    stream, read = loaded(write(tmp_path / "quiz.jsonl", text))
    labelled = [row for row in read if isinstance(row, Question) and row.answer]
    assert {row.answer for row in labelled} == {"A", "B"}
    assert all(row.choices["AB".index(row.answer or "")].startswith("right") for row in labelled)
    assert any("right choice apart" in note for note in stream.notes())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('question,choices\nQ,"10,000, 20,000"\n', "choices are numbers with commas"),
        ('question,choices\nQ,"1,5, 2,5"\n', "choices are numbers with commas"),
        ('question,choices\nQ,"1,000"\n', "choices are numbers with commas"),
        ("question,choices\nQ,\"['a', 'b', ...]\"\n", "choices hold `...`"),
        ("question,opt1,opt2\n,a,b\n", "no question text: its columns are question, opt1, opt2"),
        ("question,opt1,opt2\nQ,a,b\n", "no choices: its columns are question, opt1, opt2"),
    ],
)
def test_what_is_doubtful_is_rejected_with_its_reason(tmp_path: Path, text: str, reason: str) -> None:
    write(tmp_path / "quiz.csv", text)
    write(tmp_path / "good.csv", "question,A,B\nQ,a,b\n")
    rejected = [row for row in loaded(tmp_path)[1] if isinstance(row, Rejected)]
    assert rejected[0].reason.startswith(reason)


def test_a_file_without_a_header_is_recognised(tmp_path: Path) -> None:
    assert "is there a header line?" in mistake(write(tmp_path / "quiz.csv", "What is 2+2?,3,4,B\nBest?,x,y,A\n"))


def test_a_folder_as_kaggle_has_it(tmp_path: Path) -> None:
    """The sample submission claims no id, the hidden file of macOS is no file, and train and test are both asked."""
    write(tmp_path / "sample_submission.csv", "task_id,answer\nk0,A\n")
    write(tmp_path / "test.csv", "task_id,question,A,B\nk0,Q,a,b\n")
    write(tmp_path / "train.csv", "task_id,question,A,B,answer\nk1,R,a,b,B\n")
    write(tmp_path / "._test.csv", b"\x00\x05\x16\x07")
    stream, rows = loaded(tmp_path)
    assert [(row.task_id, isinstance(row, Question) and row.answer) for row in rows] == [("k0", None), ("k1", "B")]
    notes = "\n".join(stream.notes())
    assert "files without a question (sample_submission.csv: task_id, answer): passed over" in notes
    assert "with answers: train.csv; without answers: test.csv" in notes


def test_ids_that_start_again_in_every_file(tmp_path: Path) -> None:
    for name in ("law", "math"):
        write(tmp_path / f"{name}.csv", f"id,question,A,B\n0,{name} 0,a,b\n1,{name} 1,a,b\n")
    stream, rows = loaded(tmp_path)
    assert [row.task_id for row in rows] == ["0", "1", "math.csv/0", "math.csv/1"]
    assert any("they become FILE/task_id" in note for note in stream.notes())


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_compression_is_found_by_content(tmp_path: Path, compress: Any) -> None:
    (row,) = questions(write(tmp_path / "quiz.csv", compress(b"question,A,B\nQ,a,b\n")))
    assert row.choices == AB


def test_utf_16_is_found_by_its_mark(tmp_path: Path) -> None:
    (row,) = questions(write(tmp_path / "quiz.csv", "question,A,B\nQ é,a,b\n".encode("utf-16")))
    assert row.question == "Q é"


@pytest.mark.parametrize(
    ("encoding", "named", "words"),
    [
        ("gb18030", "gb18030", "中国的首都是哪里？上海还是北京"),
        ("shift_jis", "shift-jis", "日本の首都はどこですか"),
        ("cp1251", "cp1251", "Столица России это"),
    ],
)
def test_the_likely_encoding_is_named(tmp_path: Path, encoding: str, named: str, words: str) -> None:
    said = mistake(write(tmp_path / "quiz.csv", f"question,A,B\n{words},a,b\n", encoding))
    assert said.endswith(f"it may be {named}: set questions.encoding={named}")


def test_text_that_is_decoded_wrongly_is_said(tmp_path: Path) -> None:
    stream, _ = loaded(write(tmp_path / "quiz.csv", "question,A,B\n中国的首都,a,b\n", "gb18030"), encoding="latin-1")
    assert any("decoded from the wrong encoding" in note for note in stream.notes())


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"PAR1", b"%PDF-1.7"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, start: bytes) -> None:
    assert "quiz.csv is not text but " in mistake(write(tmp_path / "quiz.csv", start + b"\x00\xff" * 50))


def test_numbers_of_parquet_are_as_they_were_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "id": pa.array([None, 2.0]),
            "question": ["Q", "R"],
            "choices": pa.array([[0.1, 1e16], [0.5, 2.5]], pa.list_(pa.float32())),
            "subject": pa.array([float("nan"), float("nan")]),
            "answer": pa.array([1.0, float("nan")]),
        }
    )
    pq.write_table(table, tmp_path / "quiz.parquet")
    first, second = questions(tmp_path / "quiz.parquet", answers="one-based")
    assert (first.task_id, first.subject, first.choices, first.answer) == (
        "quiz.parquet:1",
        None,
        ("0.1", "1e+16"),
        "A",
    )
    assert (second.task_id, second.choices, second.answer) == ("2", ("0.5", "2.5"), None)


def test_missing_columns_of_parquet_are_no_choices(tmp_path: Path) -> None:
    table = pa.table({"question": ["Q"], "A": ["a"], "B": ["b"], "C": pa.array([float("nan")])})
    pq.write_table(table, tmp_path / "quiz.parquet")
    assert questions(tmp_path / "quiz.parquet")[0].choices == AB


def test_a_workbook_is_read(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    first, second = book.create_sheet("quiz", 0), book.create_sheet("notes")
    first.append(["id", "question", "A", "B", "answer"])
    first.append([7, "Q", 1, 2.5, "B"])
    second.append(["not read"])
    book.save(tmp_path / "quiz.xlsx")
    stream, rows = loaded(tmp_path / "quiz.xlsx")
    (row,) = rows
    assert isinstance(row, Question)
    assert (row.task_id, row.choices, row.answer, row.line) == ("7", ("1", "2.5"), "B", 2)
    assert any("notes" in note for note in stream.notes())
