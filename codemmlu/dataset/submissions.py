"""Submissions: what another system answered, as a file of `task_id,answer` like those that this project writes."""

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from codemmlu.dataset import files
from codemmlu.dataset.choices import plain
from codemmlu.dataset.cleaner import parse_answer_letter
from codemmlu.dataset.readers import READERS, Record, WrongBytesError
from codemmlu.errors import UserError, first_line

_SILENT = ("", "none", "null", "nan", "n/a", "-")


@dataclass
class Submission:
    """Letters by task_id, None for no answer; and how many answers were not what they should be."""

    letters: dict[str, str | None] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)


def read_submission(place: str, key: str) -> Submission:
    """Reads a file of answers. `key` is the recipe's, named in errors.

    Raises UserError where there is none, where it lacks a column, or where one id has two different answers.
    """
    found = Submission()
    for file in files.files(place, key):
        with file.open() as stream:
            try:
                for record in READERS[file.ending](stream, file.name, "utf-8-sig"):
                    _take(found, record, key)
            except WrongBytesError as error:
                raise UserError(f"{key}: {error}; save it as UTF-8") from None
            except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError) as error:  # a cut archive, ...
                raise UserError(f"{key}: {file.name} cannot be read: {first_line(error)}") from None
    if not found.letters:
        raise UserError(f"{key}: {place} has no rows")
    return found


def _take(found: Submission, record: Record, key: str) -> None:
    where, fields = f"{record.file}:{record.line}", {name.strip().lower(): said for name, said in record.fields.items()}
    if record.fault:
        raise UserError(f"{key}: {where}: {record.fault}")
    if missing := [name for name in ("task_id", "answer") if name not in fields]:
        raise UserError(f"{key}: {where}: there is no column {missing[0]!r}; a submission has task_id and answer")
    if record.note:
        found.notes[record.note] += 1
    name, letter = plain(fields["task_id"]).strip(), _letter(plain(fields["answer"]).strip(), found)
    if not name:
        found.notes["rows without a task_id: passed over"] += 1
        return
    if name in found.letters:
        if found.letters[name] != letter:
            said = f"{found.letters[name] or 'no answer'} and {letter or 'no answer'}"
            raise UserError(f"{key}: {where}: {name} is answered twice, with {said}; keep one of them")
        found.notes["answered twice, both times the same"] += 1
    found.letters[name] = letter


def _letter(said: str, found: Submission) -> str | None:
    if said.lower() in _SILENT:
        return None
    letter = parse_answer_letter(said)
    if letter is None:
        found.notes["answers that are no letter: counted as no answer"] += 1
    return letter
