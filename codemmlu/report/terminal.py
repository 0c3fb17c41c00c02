"""The terminal: lines, progress and the table of voters. Everything from questions and models is untrusted here."""

import sys
import threading
import time
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from codemmlu.run_dir import without_keys


def safe(text: str, width: int = 200) -> str:
    """Text that cannot steer a terminal: control, format and surrogate characters are written out; long text is cut."""
    shown = "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escaped(c) for c in text)
    return shown if len(shown) <= width else shown[: width - 3] + "..."


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


class Terminal:
    """Where a job speaks to the person: stdout, or stderr when stdout is to carry one JSON object (`--json`)."""

    def __init__(self, to_stderr: bool = False) -> None:
        seen = (sys.stderr if to_stderr else sys.stdout).isatty()
        # A file has no edge: there tables are as wide as they need to be.
        self._console = Console(stderr=to_stderr, highlight=False, width=None if seen else 160)
        self._bars = _Bars(self._console)

    def say(self, line: str) -> None:
        """One line; of addresses in it without the keys that they may carry."""
        self._console.print(Text(safe(without_keys(line), 2000)), soft_wrap=True)
        self._console.file.flush()

    def show(self, table: Table) -> None:
        """A table. Names and numbers are never cut: where it is too wide columns are left out, and that is said."""
        narrowed, left_out = _narrowed(table, self._console.width)
        self._console.print(narrowed)
        if left_out:
            self.say(f"({', '.join(left_out)}: no room in {self._console.width} columns; --json has them)")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Things go on in threads, and may be left in the middle: no bar stays behind."""
        try:
            yield
        finally:
            self._bars.end()

    def progress(self, what: str, total: int, unit: str = "questions") -> "Live":
        """Progress over `total` things: a bar in a terminal, a line now and then elsewhere."""
        return Live(self._console, self._bars, what, total, unit)


class _Bars:
    """The bars of all that goes on at once: a terminal has one place for them."""

    def __init__(self, console: Console) -> None:
        self._console, self._lock, self._count = console, threading.Lock(), 0
        self._bars: Progress | None = None

    def enter(self) -> Progress:
        """The bars, shown from the first that comes on."""
        with self._lock:
            if self._bars is None:
                columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
                self._bars = Progress(*columns, console=self._console)
                self._bars.start()
            self._count += 1
            return self._bars

    def leave(self) -> None:
        """The last that goes ends them."""
        with self._lock:
            self._count -= 1
        if not self._count:
            self.end()

    def end(self) -> None:
        """Takes the bars off the terminal."""
        with self._lock:
            if self._bars:
                self._bars.stop()
                self._bars = None


class Live:
    """Rate and time left, counted from the first thing that came back: loading an engine is not slow answering."""

    EVERY = 10.0  # seconds between two plain lines

    def __init__(self, console: Console, bars: _Bars, what: str, total: int, unit: str) -> None:
        self._console, self._bars, self._what, self._total, self._unit = console, bars, what, total, unit
        self._began, self._done, self._failed = time.monotonic(), 0, 0
        self._first: tuple[float, int] | None = None
        self._said = self._began
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> "Live":
        if self._console.is_terminal:
            self._bar = self._bars.enter()
            self._task = self._bar.add_task(self._what, total=self._total, state="starting")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bars.leave()

    def advance(self, done: int, failed: int) -> None:
        """`done` more have come back durable, `failed` of them as failed rows."""
        now = time.monotonic()
        self._done, self._failed = self._done + done, self._failed + failed
        if self._first is None:
            self._first = (now, self._done)
            self._print(f"the first {self._done:,} of {self._total:,} are in after {_span(now - self._began)}")
        elif now - self._said >= self.EVERY or self._done == self._total:
            self._print(self._state(now))
        if self._bar:
            self._bar.update(self._task, completed=self._done, state=self._state(now))

    def extend(self, more: int) -> None:
        """`more` things turned out to be there besides."""
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
        self._said = time.monotonic()
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


_LETTERS_SAID, _LETTERS = "letters said", 11  # characters of a line of them at least
_SAY_LEAST = ("q/s", "tokens", _LETTERS_SAID, "rank", "same letter", "wrong to right", "right to wrong", "questions")


def voters_table(report: Mapping[str, Any]) -> Table:
    """One line per voter, and the vote's where there are several."""
    several = len(report["voters"]) > 1
    ranked = several and report["labelled"]
    titles = ("accuracy", "95 % interval", "answered", "abstained", "failed", _LETTERS_SAID, "tokens", "q/s")
    table = _table(*(("rank",) if ranked else ()), *titles)
    for name, voter in report["voters"].items():
        told = voter["answered"] + voter["abstained"] + voter["failed"]
        rate = f"{told / voter['seconds']:.1f}" if voter["seconds"] else "-"
        counts = [f"{voter[status]:,}" for status in ("answered", "abstained", "failed")]
        tokens = f"{voter['prompt_tokens'] + voter['generated_tokens']:,}"
        rank = [str(voter["rank"])] if ranked else []
        table.add_row(_name(name), *rank, *_accuracy(voter), *counts, _letters(voter["letters_said"]), tokens, rate)
    if several:
        vote = report["vote"]
        rank = [str(vote["rank"])] if ranked else []
        answered = [f"{vote['answered']:,}", "", ""]
        said = _letters(vote["letters_said"])
        table.add_row(f"vote: {vote['rule']}", *rank, *_accuracy(vote), *answered, said, "", "")
    if report["chance"] is not None:
        guess = [*([""] if ranked else []), f"{report['chance']:.3f}", "", "", "", ""]
        table.add_row("(guessing)", *guess, f"right: {_letters(report['letters_right'])}", "", "", style="dim")
    return table


def weights_table(report: Mapping[str, Any]) -> Table:
    """What the vote learnt of each voter; no line where nothing was fitted."""
    table = _table("right on the fit split", "temperature", "weight in the pool", "skill", "skill by agreement")
    for name, one in report["fitted"]["voters"].items() if report["fitted"]["questions"] else ():
        share = f"{one['right'] / one['asked']:.3f} of {one['asked']:,}" if one["asked"] else "-"
        agreed = "-" if one["agreed"] is None else f"{one['agreed']:.2f}"
        table.add_row(
            _name(name), share, f"{one['temperature']:.2f}", f"{one['weight']:.2f}", f"{one['skill']:.2f}", agreed
        )
    return table


def rules_table(report: Mapping[str, Any]) -> Table:
    """What every rule would have said, with the one that was chosen marked; no line without labels."""
    table = _table("accuracy", "95 % interval", "on the fit split, cross-validated", first="rule")
    for name, rule in report["rules"].items() if report["labelled"] else ():
        known = rule["cross_validated"]
        chosen = " (chosen)" if name == report["vote"]["rule"] else ""
        table.add_row(f"{name}{chosen}", *_accuracy(rule), "-" if known is None else f"{known:.3f}")
    return table


def comparison_table(told: Mapping[str, Any]) -> Table:
    """Paired differences between runs, a line per voter and pair of runs."""
    titles = ("from", "to", "questions", "first", "second", "difference", "95 % interval", "right to wrong")
    table = _table(*titles, "wrong to right", "p, corrected", "same letter")
    for pair in told["comparisons"]:
        same = "-" if pair["same_letter"] is None else f"{pair['same_letter']:.3f}"
        names = (_name(pair["voter"]), _name(pair["first"]), _name(pair["second"]))
        if not pair["asked"]:
            table.add_row(*names, "0", "-", "-", "-", "-", "-", "-", "-", same)
            continue
        low, high = pair["interval"]
        table.add_row(
            *names,
            f"{pair['asked']:,}",
            f"{pair['first_accuracy']:.3f}",
            f"{pair['second_accuracy']:.3f}",
            f"{pair['difference']:+.3f}",
            f"{low:+.3f} to {high:+.3f}",
            f"{pair['only_first']:,}",
            f"{pair['only_second']:,}",
            f"{pair['p_holm']:.3f}",
            same,
        )
    return table


def _table(*titles: str, first: str = "voter") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first)
    for title in titles:
        table.add_column(title, justify="right")
    return table


def _narrowed(table: Table, width: int) -> tuple[Table, list[str]]:
    """A table that fits into a width, where rich would cut names and numbers: titles and letters may take several
    lines, and then columns go, those first that say least. And the titles of those."""
    left, left_out = list(table.columns), []
    while (room := width - sum(2 + _least(column) for column in left) + 2) < 0 and len(left) > 2:
        titles = [str(column.header) for column in left]
        goes = next((titles.index(title) for title in _SAY_LEAST if title in titles), len(titles) - 1)
        left_out.append(str(left.pop(goes).header))
    made = _table(*(str(column.header) for column in left[1:]), first=str(left[0].header))
    for row, cells in zip(table.rows, zip(*(column.cells for column in left), strict=True), strict=True):
        made.add_row(*cells, style=row.style)
    for column in made.columns:
        wanted = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
        column.width = min(wanted, _least(column) + max(0, room))
        room -= column.width - _least(column)
    return made, left_out


def _least(column: Column) -> int:
    """The characters that a column needs."""
    title = str(column.header)
    cells = [_LETTERS] if title == _LETTERS_SAID else [cell_len(str(cell)) for cell in column.cells]
    return max([*map(len, title.split()), *cells])


def cost_table(report: Mapping[str, Any]) -> Table:
    """What each voter costs as if it stood alone, and what it is worth: accuracy above guessing for each million tokens
    that were computed."""
    table = _table("computed", "cached", "generated", "readings", "turns", "seconds", "worth per 1M computed")
    for name, voter in report["voters"].items():
        counts = ("computed_tokens", "cached_tokens", "generated_tokens", "readings", "turns")
        worth = voter["above_chance_per_million_computed"]
        numbers = [f"{voter[count]:,}" for count in counts]
        table.add_row(_name(name), *numbers, f"{voter['seconds']:,.0f}", "-" if worth is None else f"{worth:.2f}")
    return table


def order_lines(report: Mapping[str, Any]) -> list[str]:
    """Order sensitivity, and what early exits saved, in lines; none where neither was asked for."""
    lines = []
    for name, voter in report["voters"].items():
        if voter["reading_alone"] is not None:
            lines.append(f"{safe(name, 40)}: {voter['reading_alone']:.3f} by the one reading beside its replies")
        if early := voter["early_exit"]:
            saved = 1 - early["readings"] / early["of"] if early["of"] else 0.0
            lines.append(
                f"{safe(name, 40)}: {early['exited']:,} questions were clear early, which saved {saved:.0%} of "
                f"{early['of']:,} readings"
            )
    for name, measured in (report["order_sensitivity"] or {}).items():
        if measured["std"] is not None:
            at = ", ".join(f"{letter} {value:.3f}" for letter, value in measured["accuracy"].items())
            lines.append(
                f"{safe(name, 40)}: order sensitivity {measured['std']:.3f}, the standard deviation of its accuracy "
                f"with the right choice at {at} ({measured['asked']:,} questions)"
            )
    return lines


def leakage_lines(report: Mapping[str, Any]) -> list[str]:
    """How much the examples give away, in lines; none where no voter looked at any, or nothing is given away."""
    table = report["leakage"]
    if not table or not table["near_verbatim"]:
        return []
    lines = [
        f"{table['verbatim']:,} of {table['looked_up']:,} questions stand among the examples word for word, "
        f"{table['near_verbatim']:,} so or at a similarity of {table['threshold']} and more."
    ]
    for name, parts in table["voters"].items():
        if parts["leaked"]["accuracy"] is not None and parts["rest"]["accuracy"] is not None:
            lines.append(
                f"  {safe(name, 40)}: {parts['leaked']['accuracy']:.3f} on those, "
                f"{parts['rest']['accuracy']:.3f} on the other {parts['rest']['asked']:,}"
            )
    return lines


def _name(name: str) -> Text:
    """A name as it is: what looks like rich's markup in it is none."""
    return Text(safe(name, 40))


def _accuracy(numbers: Mapping[str, Any]) -> tuple[str, str]:
    if numbers["accuracy"] is None:
        return "-", "no labels"
    low, high = numbers["interval"]
    return f"{numbers['accuracy']:.3f}", f"{low:.3f} to {high:.3f}"


def _letters(counts: Mapping[str, int]) -> str:
    return " ".join(f"{letter} {count}" for letter, count in counts.items())
