"""The terminal: lines, progress bars, and tables that fit the terminal's width.

Every text from questions and models is untrusted here.
"""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from codemmlu.errors import redact_credentials, safe


class Terminal:
    """The output of a job: stdout, or stderr where stdout carries one JSON object (`--json`)."""

    def __init__(self, to_stderr: bool = False) -> None:
        """Open stdout or stderr for lines, tables and progress."""
        is_terminal = (sys.stderr if to_stderr else sys.stdout).isatty()
        # A file has no edge, so tables in a file are as wide as they need to be.
        self._console = Console(stderr=to_stderr, highlight=False, width=None if is_terminal else 160)
        self._bars = _Bars(self._console)
        self.lost: OSError | None = None  # Why the output could not be written.

    def say(self, line: str) -> None:
        """Print one line, without the keys that addresses in the line may carry."""
        with self._even_if_closed():
            self._console.print(Text(safe(redact_credentials(line), 2000)), soft_wrap=True)
            self._console.file.flush()

    @contextmanager
    def _even_if_closed(self) -> Iterator[None]:
        """Let the run go on where the output cannot be written, as its reader has gone or its disk is full."""
        try:
            yield
        except OSError as error:
            self.lost = self.lost or error
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._console.file.fileno())

    def show(self, table: Table) -> None:
        """Print a table.

        Names and numbers are never cut: where the table is too wide, columns are left out and a line names them.
        """
        narrowed, left_out = _narrowed(table, self._console.width)
        with self._even_if_closed():
            self._console.print(narrowed)
        if left_out:
            self.say(f"({', '.join(left_out)}: no room in {self._console.width} columns; --json has them)")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Show the progress of several threads; no bar stays behind, even where threads are left midway."""
        try:
            yield
        finally:
            self._bars.end()

    def progress(self, what: str, total: int, unit: str = "questions") -> "LiveProgress":
        """Return the progress of `total` results: a bar in a terminal, a line now and then elsewhere."""
        return LiveProgress(self._console, self._bars, what, total, unit)


class _Bars:
    """The progress bars of all work that runs at once: a terminal can show one group of bars."""

    def __init__(self, console: Console) -> None:
        """Show no bar yet."""
        self._console, self._lock, self._count = console, threading.Lock(), 0
        self._bars: Progress | None = None

    def enter(self) -> Progress:
        """Return the group of bars, which is shown from the first piece of work on."""
        with self._lock:
            if self._bars is None:
                columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
                self._bars = Progress(*columns, console=self._console)
                self._bars.start()
            self._count += 1
            return self._bars

    def leave(self) -> None:
        """Take the bars off the terminal after the last piece of work."""
        with self._lock:
            self._count = max(0, self._count - 1)  # work that is left behind by `end` may still leave
            if not self._count:
                self._stop()

    def end(self) -> None:
        """Take the bars off the terminal, whatever work still runs."""
        with self._lock:
            self._count = 0
            self._stop()

    def _stop(self) -> None:
        if self._bars:
            self._bars.stop()
            self._bars = None


class LiveProgress:
    """The rate and the time left of one piece of work.

    Both count from the first result on, because the time that an engine takes to load is not slow answering.
    """

    EVERY = 10.0  # seconds between two plain lines

    def __init__(self, console: Console, bars: _Bars, what: str, total: int, unit: str) -> None:
        """Begin to count.

        Args:
            console: The console for plain lines.
            bars: The bars of the terminal.
            what: The name of the work.
            total: The number of results to come.
            unit: The word for results in rates.
        """
        self._console, self._bars, self._what, self._total, self._unit = console, bars, what, total, unit
        self._began, self._done, self._failed = time.monotonic(), 0, 0
        self._first: tuple[float, int] | None = None
        self._printed_at = self._began
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "LiveProgress":
        """Show a bar, in a terminal."""
        if self._console.is_terminal:
            self._bar = self._bars.enter()
            self._task = self._bar.add_task(self._what, total=self._total, state="starting")
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bar."""
        if self._bar:
            self._bars.leave()

    def advance(self, done: int, failed: int) -> None:
        """Count `done` more durable results, `failed` of which are failed rows."""
        now = time.monotonic()
        self._done, self._failed = self._done + done, self._failed + failed
        if self._first is None:
            self._first = (now, self._done)
            self._print(f"the first {self._done:,} of {self._total:,} are in after {_span(now - self._began)}")
        elif now - self._printed_at >= self.EVERY or self._done == self._total:
            self._print(self._state(now))
        if self._bar:
            self._bar.update(self._task, completed=self._done, state=self._state(now))

    def extend(self, more: int) -> None:
        """Add `more` results, which became known later, to the total."""
        self._total += more
        if self._bar:
            self._bar.update(self._task, total=self._total)

    def _state(self, now: float) -> str:
        assert self._first is not None
        since, before = self._first
        failed = f", {self._failed:,} failed" if self._failed else ""
        if now - since < 0.5 or self._done == before:
            return f"{self._done:,} of {self._total:,}{failed}"
        rate = (self._done - before) / (now - since)
        left = "" if self._done == self._total else f", {_span((self._total - self._done) / rate)} left"
        return f"{self._done:,} of {self._total:,}, {rate:.1f} {self._unit}/s{left}{failed}"

    def _print(self, state: str) -> None:
        self._printed_at = time.monotonic()
        if not self._bar:
            self._console.print(Text(f"{self._what}: {state}"))
            self._console.file.flush()


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


PREDICTED_LETTERS = "predicted letters"
_LETTERS = 11  # characters that a line of letters needs at least
# Titles of the columns that go first where a table is too wide, the least informative first.
_LEAST_INFORMATIVE = (
    "q/s",
    "tokens",
    PREDICTED_LETTERS,
    "rank",
    "same letter",
    "wrong to right",
    "right to wrong",
    "questions",
)


def plain_table(*titles: str, first: str = "voter") -> Table:
    """Return an empty table with names at the left and numbers at the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for title in titles:
        table.add_column(title, justify="right")
    return table


def _narrowed(table: Table, width: int) -> tuple[Table, list[str]]:
    """Fit a table into a width without cutting names and numbers, as rich would.

    Titles and letters may take several lines; where that is not enough, the least informative columns go first.

    Returns:
        The table, and the titles of the columns that are left out.
    """
    kept, left_out = list(table.columns), []
    while (room := width - sum(2 + _least(column) for column in kept) + 2) < 0 and len(kept) > 2:
        titles = [str(column.header) for column in kept]
        index = next((titles.index(title) for title in _LEAST_INFORMATIVE if title in titles), len(titles) - 1)
        left_out.append(str(kept.pop(index).header))
    narrowed = plain_table(*(str(column.header) for column in kept[1:]), first=str(kept[0].header))
    for row, cells in zip(table.rows, zip(*(column.cells for column in kept), strict=True), strict=True):
        narrowed.add_row(*cells, style=row.style)
    for column in narrowed.columns:
        wanted = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        column.width = min(wanted, _least(column) + max(0, room))
        room -= column.width - _least(column)
    return narrowed, left_out


def _least(column: Column) -> int:
    """Return the least width of a column, in characters."""
    title = str(column.header)
    cells = [_LETTERS] if title == PREDICTED_LETTERS else [cell_len(str(cell)) for cell in column.cells]
    return max([*map(len, title.split()), *cells])
