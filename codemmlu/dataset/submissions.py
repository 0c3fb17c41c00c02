"""Submissions: another system's answers, as `task_id,answer` like the files of this project."""

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from codemmlu.dataset import files
from codemmlu.dataset.choices import plain
from codemmlu.dataset.cleaner import parse_answer_letter
from codemmlu.dataset.limits import DEFAULT
from codemmlu.dataset.readers import READERS, Record, WrongBytesError
from codemmlu.errors import UserError, first_line

_NO_ANSWER = ("", "none", "null", "nan", "n/a", "-")


@dataclass
class Submission:
    """The answers of another system.

    Attributes:
        letters: The answered letter by task_id; None for no answer.
        notes: The number of rows for each kind of oddity.
    """

    letters: dict[str, str | None] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


def read_submission(source: str, key: str) -> Submission:
    """Read a file of answers.

    Args:
        source: A path, directory, glob or URI.
        key: The recipe key that names the source, for errors.

    Returns:
        The answers in all files of the source.

    Raises:
        UserError: There is no row or no file that can be read, a column is missing, or one task_id has two answers.
    """
    submission = Submission()
    for file in files.files(source, key):
        with file.open() as stream:
            try:
                for record in READERS[file.ending](stream, file.name, "utf-8-sig", DEFAULT):
                    _take(submission, record, key)
            except WrongBytesError as error:
                raise UserError(f"{key}: {error}; save it as UTF-8") from None
            except (
                OSError,
                pa.ArrowException,
                ValueError,
                OverflowError,
                MemoryError,
            ) as error:  # such as a cut archive
                raise UserError(f"{key}: {file.name} cannot be read: {first_line(error)}") from None
    if not submission.letters:
        raise UserError(f"{key}: {source} has no rows")
    return submission


def _take(submission: Submission, record: Record, key: str) -> None:
    where = f"{record.file}:{record.line}"
    fields = {name.strip().lower(): value for name, value in record.fields.items()}
    if record.fault:
        raise UserError(f"{key}: {where}: {record.fault}")
    if missing := [name for name in ("task_id", "answer") if name not in fields]:
        raise UserError(f"{key}: {where}: there is no column {missing[0]!r}; a submission has task_id and answer")
    if record.note:
        submission.notes[record.note] += 1
    name, letter = plain(fields["task_id"]).strip(), _letter(plain(fields["answer"]).strip(), submission)
    if not name:
        submission.notes["rows without a task_id: passed over"] += 1
        return
    if name in submission.letters:
        if submission.letters[name] != letter:
            answers = f"{submission.letters[name] or 'no answer'} and {letter or 'no answer'}"
            raise UserError(f"{key}: {where}: {name} is answered twice, with {answers}; keep one of them")
        submission.notes["answered twice, both times the same"] += 1
    submission.letters[name] = letter


def _letter(answer: str, submission: Submission) -> str | None:
    if answer.lower() in _NO_ANSWER:
        return None
    letter = parse_answer_letter(answer)
    if letter is None:
        submission.notes["answers that are no letter: counted as no answer"] += 1
    return letter
