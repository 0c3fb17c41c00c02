"""Short ways to put rows before the cleaner and files before `load`."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codemmlu.dataset import Cleaner, QuestionStream, Record
from codemmlu.errors import UserError
from codemmlu.recipe import QuestionSettings
from codemmlu.schema import Question, Rejected

FOUR = ["w", "x", "y", "z"]
HEADER = "task_id,question,choices,answer\n"
ROW = "k1,Which?,\"['a', 'b']\",A\n"


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


def loaded(source: Path | str, **more: Any) -> tuple[QuestionStream, list[Question | Rejected]]:
    result = QuestionStream(QuestionSettings(source=str(source), **more))
    return result, list(result.rows())


def rows(source: Path | str, **more: Any) -> list[Question | Rejected]:
    return loaded(source, **more)[1]


def questions(source: Path | str, **more: Any) -> list[Question]:
    read = rows(source, **more)
    assert all(isinstance(row, Question) for row in read), read
    return [row for row in read if isinstance(row, Question)]


def mistake(source: Path | str, **more: Any) -> str:
    """Return the text of the error: always one line."""
    with pytest.raises(UserError) as caught:
        rows(source, **more)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def write(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def quiz(path: Path, ids: Sequence[str], subject: str | None = None) -> Path:
    """A JSONL file of good questions."""
    fields = [{"task_id": name, "question": "Q", "choices": ["a", "b"], "subject": subject} for name in ids]
    return write(path, "".join(json.dumps(row) + "\n" for row in fields))


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """A Parquet file with these rows."""
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()
