"""Submissions: another system's answers, as `task_id,answer` like the files of this project."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from codemmlu.dataset import files
from codemmlu.dataset.answers import parse_answer_letter
from codemmlu.dataset.limits import Limits
from codemmlu.dataset.readers import READERS, NoTableError, Record, WrongBytesError
from codemmlu.dataset.values import plain
from codemmlu.errors import UserError, first_line

_LIMITS = Limits(section="")  # No setting of the recipe raises them.
# What readers raise for a cut archive, a broken Parquet page or a struct with a name twice, for example.
_UNREADABLE = (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError)
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


@dataclass(frozen=True)
class Sample:
    """A sample submission: the names of its two columns, and the ids of its lines in order."""

    header: tuple[str, str]
    ids: tuple[str, ...]


def read_sample(source: str, key: str) -> Sample:
    """Read a sample submission, whose first column has the ids and whose second one has the answers.

    Args:
        source: A path or URI.
        key: The recipe key that names the source, for errors.

    Returns:
        Its header and ids.

    Raises:
        UserError: The source has no rows, or not two columns.
    """
    header: tuple[str, ...] = ()
    ids = []
    for record in _records(source, key):
        header = header or tuple(record.fields)
        if len(header) != 2:
            names = ", ".join(header)
            raise UserError(f"{source} has the columns {names}; a sample submission has two, id and answer", key=key)
        ids.append(plain(record.fields[header[0]]).strip())
    if not header:
        raise UserError(f"{source} has no rows", key=key)
    return Sample((header[0], header[1]), tuple(ids))


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
    for record in _records(source, key, submission.notes):
        _take(submission, record, key)
    if not submission.letters:
        raise UserError(f"{source} has no rows", key=key)
    return submission


def _records(source: str, key: str, notes: Counter[str] | None = None) -> Iterator[Record]:
    """Read the rows of all files of a source, and count their oddities.

    Yields:
        Rows that could be read.

    Raises:
        UserError: A file or a row cannot be read.
    """
    for file in files.files(source, key):
        with file.open() as stream:
            try:
                for record in READERS[file.ending](stream, file.name, "utf-8-sig", _LIMITS):
                    if notes is not None:
                        notes.update(record.notes)
                    if record.fault:
                        raise UserError(f"{record.file}:{record.line}: {record.fault}", key=key)
                    if not record.passed_over:
                        yield record
            except NoTableError as error:
                raise UserError(f"{error}", key=key) from None
            except WrongBytesError as error:
                reason = str(error).partition("; ")[0]
                raise UserError(f"{reason}; save it as UTF-8", key=key) from None
            except _UNREADABLE as error:
                raise UserError(f"{file.name} cannot be read: {first_line(error)}", key=key) from None


def _take(submission: Submission, record: Record, key: str) -> None:
    where = f"{record.file}:{record.line}"
    fields = {name.strip().lower(): value for name, value in record.fields.items()}
    if missing := [name for name in ("task_id", "answer") if name not in fields]:
        raise UserError(f"{where}: there is no column {missing[0]!r}; a submission has task_id and answer", key=key)
    name, letter = plain(fields["task_id"]).strip(), _letter(plain(fields["answer"]).strip(), submission)
    if not name:
        submission.notes["rows without a task_id: passed over"] += 1
        return
    if name in submission.letters:
        if submission.letters[name] != letter:
            answers = f"{submission.letters[name] or 'no answer'} and {letter or 'no answer'}"
            raise UserError(f"{where}: {name} is answered twice, with {answers}; keep one of them", key=key)
        submission.notes["answered twice, both times the same"] += 1
    submission.letters[name] = letter


def _letter(answer: str, submission: Submission) -> str | None:
    if answer.lower() in _NO_ANSWER:
        return None
    letter = parse_answer_letter(answer)
    if letter is None:
        submission.notes["answers that are no letter: counted as no answer"] += 1
    return letter
