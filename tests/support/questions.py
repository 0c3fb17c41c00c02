"""Question files for tests: written in one place."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("task_id", "question", "choices", "answer")


def questions_csv(
    path: Path,
    n: int,
    *,
    prefix: str = "q",
    text: str = "#q{i} which is it?",
    choices: Sequence[str] = ("this", "that {i}", "those"),
    answers: str = "A",
) -> Path:
    """Write n questions and return the path.

    Args:
        path: Where the file goes.
        n: How many questions it gets.
        prefix: Of every task_id; a number from 0 follows.
        text: Of every question; {i} stands for the number.
        choices: Texts of the choices, with {i} too.
        answers: The right letters, in turn. Empty: the file has no column of answers.
    """
    rows = (
        {
            "task_id": f"{prefix}{i}",
            "question": text.format(i=i),
            "choices": [choice.format(i=i) for choice in choices],
            "answer": answers[i % len(answers)] if answers else None,
        }
        for i in range(n)
    )
    return write_csv(path, rows, COLUMNS if answers else COLUMNS[:-1])


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> Path:
    """Write rows as a CSV file with these columns and return its path."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def append_csv(path: Path, *rows: Sequence[Any]) -> None:
    """Append rows of values to a CSV file."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
