"""The accepted questions of a run, as its directory keeps them."""

from collections.abc import Iterator

from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, question_from


def stored_questions(run: RunDir, folder: str = "questions") -> Iterator[Question]:
    """The accepted questions of a run, longest first within each file."""
    for name in run.files(folder):
        for row in run.read_table(name).to_pylist():
            yield question_from(row)
