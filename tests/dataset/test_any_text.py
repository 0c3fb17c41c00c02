"""Any text, written as CSV, JSONL or Parquet, comes back as it was, with its line."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codemmlu.dataset import QuestionStream
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question, letters

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
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back_as_it_was_written(
    tmp_path: Path,
    ending: str,
    write: Callable[[Rows, Path], list[int]],
    answers: Literal["letter", "one-based", "text"],
    rows: Rows,
) -> None:
    path = tmp_path / f"quiz{ending}"
    lines = write(rows, path)
    read = list(QuestionStream(QuestionSettings(source=str(path), answers=answers)).rows())
    assert [row.line for row in read] == lines
    for row, (question, choices) in zip(read, rows, strict=True):
        assert isinstance(row, Question)
        assert row.question == question
        assert list(row.choices) == choices
        if answers == "text":
            assert row.answer == ("A" if choices[0].strip() and choices.count(choices[0]) == 1 else None)
        elif answers == "letter" and letters(len(choices))[-1] in choices[:-1]:
            assert row.answer is None, "a letter that is the text of another choice is no label"
        else:
            assert row.answer == letters(len(choices))[-1]
