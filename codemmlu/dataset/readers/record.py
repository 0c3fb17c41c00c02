"""The record: one row of a source with uncleaned fields, which every reader returns."""

from dataclasses import dataclass, field
from typing import Any

from codemmlu.errors import UserError


@dataclass(frozen=True)
class Record:
    """One row of a source.

    Attributes:
        file: The name of the file.
        line: Counts from 1: the row's first physical line in a text file, the row in Parquet and Excel.
        fields: The values by column, as the file writes them.
        fault: The reason why a row could not be read, and so has no fields; written `kind` or `kind: details`.
        notes: Oddities of a row, or of its file, that could be read all the same.
        passed_over: Whether the record is no row of the source; only its notes count.
    """

    file: str
    line: int
    fields: dict[str, Any] = field(default_factory=dict)
    fault: str | None = None
    notes: tuple[str, ...] = ()
    passed_over: bool = False


class WrongBytesError(UserError):
    """The error of a file that is not written in the encoding in which it is read."""


class NoTableError(UserError):
    """The error of a file that holds something else than rows."""
