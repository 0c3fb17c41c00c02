"""The reader of CSV and of tables with tabs: a header line, and rows whose quoted fields may span lines."""

import csv
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from codemmlu.dataset.limits import DEFAULT, Limits, too_long
from codemmlu.dataset.readers.record import Record
from codemmlu.dataset.readers.text import open_text
from codemmlu.errors import UserError

_SEPARATORS = ",;\t|"
_NAMES = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# Lines that are looked at to see how a file is written.
_LOOK = 100
_BLANK_BEFORE_QUOTE = re.compile(r'[ \t]+"')
_SHORT = "rows with fewer fields than the header: what is missing counts as empty"
_BLANKS = "files with a blank before quoted fields: the blank is left out"
_AGAIN = "lines that repeat the header: passed over"


def read_csv(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read a table; the separator (comma, semicolon, tab or vertical bar) is found in the header.

    Yields:
        One record per row that is not blank.

    Raises:
        UserError: A column appears twice, or quoting is broken, which would swallow rows.
    """
    csv.field_size_limit(limits.field_characters)
    text = open_text(stream, name, encoding, limits)
    head = _head(text.lines, limits)
    try:
        separator = _separator(head[0] if head else "")
    except csv.Error:
        raise UserError(too_long(f"{name}:1", "a field", limits)) from None
    has_blanks = _has_blanks(head, separator)
    notes = list(text.notes)
    notes += [f"files whose columns are separated by {_NAMES[separator]}: read as such"] if separator in _NAMES else []
    notes += [_BLANKS] if has_blanks else []
    lines = itertools.chain(head, text.lines)
    reader = csv.reader(lines, strict=True, delimiter=separator, skipinitialspace=has_blanks)
    line = 1
    try:
        header = [column.strip() for column in next(reader, [])]
        _refuse_twice(header, name)
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            if values:
                yield _record(name, line, header, values, notes)
                notes = []
    except csv.Error as error:
        if "field larger than" in str(error):
            raise UserError(too_long(f"{name}:{line}", "a field", limits)) from None
        raise UserError(
            f"{name}:{line}: broken CSV quoting in the row that begins here ({error} in line {reader.line_num}); "
            "fix its quotes"
        ) from None


def _head(lines: Iterator[str], limits: Limits) -> list[str]:
    """Return the first lines, of which there are fewer where they are long."""
    head, size = [], 0
    for line in itertools.islice(lines, _LOOK):
        head.append(line)
        size += len(line)
        if size > limits.line_bytes:
            break
    return head


def _record(name: str, line: int, header: list[str], values: list[str], notes: list[str]) -> Record:
    """Return the record of one row."""
    if len(values) > len(header):
        fault = f"more fields than the header: {len(values)} under {len(header)}"
        return Record(name, line, fault=fault, notes=tuple(notes))
    if [value.strip() for value in values] == header:
        return Record(name, line, notes=(*notes, _AGAIN), passed_over=True)
    short = len(header) - len(values)
    fields = dict(zip(header, values + [""] * short, strict=True))
    return Record(name, line, fields, notes=(*notes, _SHORT) if short else tuple(notes))


def _separator(first: str) -> str:
    """Return the comma, or another separator where it alone divides the header."""
    columns = {separator: len(next(csv.reader([first], delimiter=separator), [])) for separator in _SEPARATORS}
    return "," if columns[","] > 1 else max(_SEPARATORS, key=lambda separator: columns[separator])


def _has_blanks(head: list[str], separator: str) -> bool:
    """Return whether fields have a blank before their quotes, which would make the quotes part of the text."""
    try:
        as_is, skipped = (
            {value for row in csv.reader(head[1:], delimiter=separator, skipinitialspace=skips) for value in row}
            for skips in (False, True)
        )
    except csv.Error:
        return False
    # The text of a field in quotes may begin with a blank and a quote: it is the same either way.
    return any(_BLANK_BEFORE_QUOTE.match(value) for value in as_is - skipped)


def _refuse_twice(header: list[str], name: str) -> None:
    counts = Counter(column.lower() for column in header if column)
    for column in header:
        if counts[column.lower()] > 1:
            raise UserError(f"{name}:1: the column {column!r} appears twice; rename one of them")
