"""The errors that callers distinguish, the cleaning of text from elsewhere, and the interface to report progress.

Any other exception is a bug and keeps its traceback.
"""

import re
import unicodedata
from contextlib import AbstractContextManager
from typing import Protocol


class UserError(Exception):
    """A user's mistake, in one line that names the value, where it stands and the remedy. Exit code 2."""


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
