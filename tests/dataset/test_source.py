"""Where questions are found and which of them are read: directories, globs, addresses, limit, subjects."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from codemmlu.schema import Question, Rejected
from tests.support.asking import HEADER, ROW, loaded, mistake, questions, quiz, rows, write


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """An empty working directory."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def test_a_directory_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    quiz(tmp_path / "b.jsonl", ["b"])
    write(tmp_path / "a.csv", HEADER + ROW)
    write(tmp_path / "readme.txt", "not a question")
    quiz(tmp_path / "sub" / "c.jsonl", ["c"])
    read = questions(tmp_path)
    assert [(row.task_id, row.position) for row in read] == [("k1", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("pattern", "ids"),
    [
        ("in/*.jsonl", ["a", "b"]),
        ("./in/?.jsonl", ["a", "b"]),
        ("*.jsonl", ["top"]),
        ("in/[!a].jsonl", ["b"]),
        ("*/*/*.jsonl", ["c"]),
        ("*/*.jsonl", ["a", "b"]),
        ("**/*.jsonl", ["a", "b", "c", "top"]),
        ("in/**", ["a", "b", "c"]),
        ("in/odd[1].jsonl", ["odd"]),
    ],
)
def test_a_glob_is_read_as_in_a_shell(here: Path, pattern: str, ids: list[str]) -> None:
    if pattern == "in/odd[1].jsonl":
        quiz(here / "in" / "odd[1].jsonl", ["odd"])  # a file of that very name goes before the pattern
    for name in ("in/a", "in/b", "in/deep/c", "top"):
        quiz(here / f"{name}.jsonl", [name[-1] if "/" in name else name])
    assert [row.task_id for row in questions(pattern)] == ids


def test_a_glob_with_an_absolute_path_is_read(tmp_path: Path) -> None:
    quiz(tmp_path / "b.jsonl", ["b"])
    quiz(tmp_path / "a.jsonl", ["a"])
    assert [row.file for row in questions(f"{tmp_path}/*.jsonl")] == [f"{tmp_path}/a.jsonl", f"{tmp_path}/b.jsonl"]


def test_a_file_uri_is_read(tmp_path: Path) -> None:
    quiz(tmp_path / "a.jsonl", ["a"])
    assert questions(f"file://{tmp_path}/a.jsonl")[0].task_id == "a"


@pytest.mark.parametrize("source", ["none.csv", "no/such/place/q.csv", "nowhere/*.csv", "in/*.csv", "[z-a].csv", "in"])
def test_a_source_that_is_not_there_is_an_error(here: Path, source: str) -> None:
    write(here / "in" / "readme.txt", "")
    message = mistake(source)
    assert message.startswith(f"questions.source: no file at {source}; give ") or "bad character range" in message


def test_a_file_of_an_unknown_kind_is_an_error(here: Path) -> None:
    write(here / "data" / "q.pdf", b"%PDF")
    expected = "is not one of .csv, .tsv, .jsonl, .json, .parquet, .xlsx (text also as .gz, .bz2, .zst)"
    assert mistake("data/q.pdf") == f"questions.source: data/q.pdf {expected}"


def test_an_address_of_an_unknown_scheme_is_an_error() -> None:
    assert mistake("ftp://host/q.csv").startswith("questions.source: ftp://host/q.csv is no readable address: ")


def test_limit_counts_accepted_rows_and_reads_no_further(tmp_path: Path) -> None:
    bad = "k%d,Q,[],A\n"
    text = HEADER + bad % 1 + ROW.replace("k1", "k2") + bad % 3 + ROW.replace("k1", "k4") + 'k5,"broken "quotes",,\n'
    path = write(tmp_path / "q.csv", text)
    result, read = loaded(path, limit=2)
    assert [(row.task_id, type(row)) for row in read] == [
        ("k1", Rejected),
        ("k2", Question),
        ("k3", Rejected),
        ("k4", Question),
    ]
    assert (result.questions, result.rejected) == (2, 2)
    assert "broken CSV quoting" in mistake(path, limit=3)


def test_subjects_pass_over_the_rest(tmp_path: Path) -> None:
    quiz(tmp_path / "a.jsonl", ["a1", "a2"], "sql")
    quiz(tmp_path / "b.jsonl", ["b1", "b2"], "c")
    quiz(tmp_path / "c.jsonl", ["c1"], None)
    write(tmp_path / "d.jsonl", '{"task_id": "d", "subject": "sql"}\n')
    assert [(row.task_id, row.position) for row in rows(tmp_path, subjects=["c"])] == [("b1", 2), ("b2", 3)]
    assert [row.task_id for row in questions(tmp_path, subjects=["c", "sql"], limit=3)] == ["a1", "a2", "b1"]


def test_a_subject_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    path = quiz(tmp_path / "a.jsonl", ["a1"], "sql")
    assert mistake(path, subjects=["sql", "Sql"]) == f"questions.subjects: {path} has no 'Sql'; its subjects: sql"


def test_the_same_row_in_two_files_is_asked_once(tmp_path: Path) -> None:
    quiz(tmp_path / "a.jsonl", ["k1"])
    quiz(tmp_path / "b.jsonl", ["k1"])
    read = rows(tmp_path)
    assert [type(row) for row in read] == [Question, Rejected]


def test_files_of_one_name_without_task_ids_are_told_apart(here: Path) -> None:
    for subject in ("x", "y"):
        write(here / subject / "test.jsonl", '{"question": "Q", "choices": ["a", "b"]}\n')
    assert [row.task_id for row in questions("*/test.jsonl")] == ["test.jsonl:1", "y/test.jsonl:1"]
