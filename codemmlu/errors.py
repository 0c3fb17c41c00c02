"""The errors that callers distinguish, the cleaning of text from elsewhere, and the interface to report progress.

Any other exception is a bug and keeps its traceback.
"""

import errno
import re
import unicodedata
from contextlib import AbstractContextManager
from typing import Protocol


class UserError(Exception):
    """A user's mistake, in one line that names the value, where it stands and the remedy. Exit code 2.

    Attributes:
        message: The line without the key.
        key: The recipe's key path of the mistake, such as `examples.index`; empty where no key is at fault.
    """

    def __init__(self, message: str, key: str = "") -> None:
        """Keep the message and the key; both are in `args`, so that the error can be sent between processes."""
        super().__init__(message, key)
        self.message, self.key = message, key

    def __str__(self) -> str:
        """Return the line as a user reads it: `KEY: MESSAGE`."""
        return f"{self.key}: {self.message}" if self.key else self.message


class EngineDied(Exception):
    """The death of a worker's engine: the actor must be replaced and its questions retried. Exit code 1."""


class ProgressLine(Protocol):
    """The progress of one piece of work."""

    def advance(self, done: int, failed: int) -> None:
        """Count `done` more durable results, `failed` of which are failed rows."""

    def extend(self, more: int) -> None:
        """Add `more` results to the total."""


class Progress(Protocol):
    """The interface by which a step reports to the user: lines, and the progress of pieces of work."""

    def say(self, line: str) -> None:
        """Print one line, without credentials and control characters."""

    def progress(self, what: str, total: int, unit: str = "questions") -> AbstractContextManager[ProgressLine]:
        """Start a piece of work with a name and a total."""

    def together(self) -> AbstractContextManager[None]:
        """Let several pieces of work run in threads; no progress bar is left when they end."""


# How the kernel, Rust's libraries and torch say that a disk, or its quota, is full.
_FULL = ("No space left on device", "Disk quota exceeded", "(os error 28)", "StorageFull")


def is_disk_full(error: BaseException | str | None) -> bool:
    """Return whether an error, or an error that it comes from, is that of a full disk."""
    if error is None or isinstance(error, str):
        return any(text in (error or "") for text in _FULL)
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or is_disk_full(str(error)) or is_disk_full(error.__cause__ or error.__context__)


def safe(text: str, width: int = 200) -> str:
    """Escape control, format and surrogate characters, which could steer a terminal, and cut long text."""
    shown = "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escaped(c) for c in text)
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def redact_credentials(text: str) -> str:
    """Remove the keys and options that s3:// addresses in a text may carry."""
    plain = _CREDENTIALS.sub("://", text)
    return re.sub(r"(\w://[^\s?'\"]*)\?[\w.]+=[^\s'\"]*", r"\1", plain)  # The ? of a glob stays.


# KEY:SECRET@, or KEY@. A secret may hold a slash, a blank or an @ itself, so all of a line up to its last @ goes.
_CREDENTIALS = re.compile(r"://(?:[^/\s:@'\"]*:(?:(?!://)[^\n])*@|[^/\s@]*@)")


def first_line(error: BaseException) -> str:
    """Return an error's first line, at most 300 characters, or the name of an error without text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
