"""The reader of JSON: an object per line, an array of objects, objects over several lines, or an object with rows."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO

from codemmlu.dataset.limits import DEFAULT, Limits, check_fields, join_within
from codemmlu.dataset.readers.record import Record
from codemmlu.dataset.readers.text import open_text
from codemmlu.errors import first_line

# Keys under which a file of one object holds its rows.
_HOLDERS = ("data", "questions", "rows", "examples", "items", "records", "train", "validation", "dev", "test")
_BETWEEN = re.compile(r"[\s,]*")


class _Missing(str):
    """NaN, which pandas writes for a missing value: it may be a choice in a list, but never a field."""


def read_json(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read the objects of a file; the first line shows whether there is one object per line.

    Numbers stay as they are written: 1.50 is not 1.5 where it is a choice. A field that is NaN is missing.

    Yields:
        One record per object; the line is where the object begins.
    """
    text = open_text(stream, name, encoding, limits)
    lines = enumerate(text.lines, start=1)
    number, first = next(((number, line) for number, line in lines if line.strip()), (1, ""))
    second = next(((number, line) for number, line in lines if line.strip()), None)
    if _is_whole(first, alone=second is None):
        rest = (second[1] if second else "") + join_within((line for _, line in lines), name, limits)
        between = "\n" * (second[0] - number - 1) if second else ""
        records = _whole(first + between + rest, name, number)
    else:
        records = _by_line(number, first, second, lines, name)
    notes = text.notes
    for record in records:
        check_fields(f"{name}:{record.line}", record.fields, limits)
        yield Record(record.file, record.line, record.fields, record.fault, notes)
        notes = ()


def _is_whole(first: str, alone: bool) -> bool:
    """Return whether a file is one JSON text, or objects over several lines, by the file's first line."""
    line = first.strip()
    if line.startswith("["):
        return alone or _fault(line) is not None
    return line.startswith("{") and not line.endswith("}")


def _by_line(
    number: int, first: str, second: tuple[int, str] | None, rest: Iterator[tuple[int, str]], name: str
) -> Iterator[Record]:
    yield from _line(name, number, first)
    if second:
        yield from _line(name, *second)
    for number, line in rest:
        yield from _line(name, number, line)


def _line(name: str, number: int, text: str) -> Iterator[Record]:
    if not text.strip():
        return
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        yield Record(name, number, fault=f"not JSON: {first_line(error)}")
        return
    yield from _rows(name, number, value)


def _whole(text: str, name: str, first: int) -> Iterator[Record]:
    """Read the values of an array, or values one after the other; what comes after a broken value is lost, and said."""
    position = len(text) - len(text.lstrip())
    in_array = text[position] == "["
    position, line, counted = position + in_array, first, 0
    while True:
        match = _BETWEEN.match(text, position)
        position = match.end() if match else position
        if position == len(text) or (in_array and text[position] == "]"):
            return
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            yield Record(name, line, fault=f"not JSON, and all rows after it are lost: {first_line(error)}")
            return
        yield from _rows(name, line, value)


def _rows(name: str, line: int, value: object) -> Iterator[Record]:
    """Return the record of an object, or the records of the rows that it holds."""
    if not isinstance(value, dict):
        yield Record(name, line, fault=f"a JSON {type(value).__name__} where an object should be")
        return
    rows = [rows for key, rows in value.items() if key.lower() in _HOLDERS and _is_table(rows)]
    for fields in rows[0] if len(rows) == 1 and len(value) <= len(_HOLDERS) else [value]:
        yield Record(name, line, {key: None if isinstance(item, _Missing) else item for key, item in fields.items()})


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _constant(text: str) -> str:
    return _Missing(text) if text == "NaN" else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dictionary.

    Raises:
        ValueError: A name appears twice, so it is not known which value is meant.
    """
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return fields


_DECODER = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_constant, object_pairs_hook=_object)


def _fault(text: str) -> str | None:
    try:
        _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        return first_line(error)
    return None
