"""Readers: an open file to records. A record is a line number and the fields as they stand there, uncleaned."""

import codecs
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from codemmlu.errors import UserError, first_line


@dataclass(frozen=True)
class Record:
    """One row of a source. `line` counts from 1: the first physical line in text files, the row in Parquet.

    A row that could not even be read has no fields and a `fault`, written `kind` or `kind: details`. `note`: what is
    odd about it, and does not keep it from being read.
    """

    file: str
    line: int
    fields: dict[str, Any]
    fault: str | None = None
    note: str | None = None


class WrongBytesError(UserError):
    """A file is not written in the encoding that it is read in."""


def _lines(stream: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Lines with their own line ends, so that code keeps its whitespace; wrong bytes are an error with their place."""
    # utf-16 and its like have other bytes at a line's end: such files are decoded whole, all others line by line.
    whole = "\n\n".encode(encoding)[-2:] != b"\n\n"
    decoder = codecs.getincrementaldecoder(encoding)()
    number = 0
    try:
        for raw in [stream.read()] if whole else stream:
            text = decoder.decode(raw, final=whole or not raw.endswith(b"\n"))
            for line in io.StringIO(text, newline="\n"):
                number += 1
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 1]
        before = error.object[: error.start].decode(encoding, "ignore").count("\n") if whole else 0
        raise WrongBytesError(f"{name}:{number + before + 1}: byte {wrong!r} is not {encoding}") from None


def read_csv(stream: BinaryIO, name: str, encoding: str) -> Iterator[Record]:
    """CSV with a header line; quoted fields may span lines. Broken quoting would swallow rows, so it is an error."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(_lines(stream, name, encoding), strict=True)
    line = 1
    try:
        header = [column.strip() for column in next(reader, [])]
        counts = Counter(column.lower() for column in header if column)
        for column in header:
            if counts[column.lower()] > 1:
                raise UserError(f"{name}:1: the column {column!r} appears twice; rename one of them")
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            if not values:
                continue
            if len(values) > len(header):
                yield Record(name, line, {}, f"more fields than the header: {len(values)} under {len(header)}")
                continue
            short = len(header) - len(values)
            note = "rows with fewer fields than the header: what is missing counts as empty" if short else None
            yield Record(name, line, dict(zip(header, values + [""] * short, strict=True)), note=note)
    except csv.Error as error:
        raise UserError(
            f"{name}:{line}: broken CSV quoting in the row that begins here ({error} in line {reader.line_num}); "
            "fix its quotes"
        ) from None


class _Missing(str):
    """NaN, as pandas writes what is missing; in a list it may be a choice, as a field it is none."""


def _constant(text: str) -> str:
    return _Missing(text) if text == "NaN" else text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises ValueError where a name stands twice: which of them is meant, nobody knows."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return found


def read_jsonl(stream: BinaryIO, name: str, encoding: str) -> Iterator[Record]:
    """One JSON object a line. Numbers stay as they are written: 1.50 is not 1.5 where it is a choice. A field that is
    NaN is missing."""
    for line, text in enumerate(_lines(stream, name, encoding), start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(
                text, parse_float=str, parse_int=str, parse_constant=_constant, object_pairs_hook=_object
            )
        except (ValueError, RecursionError) as error:
            yield Record(name, line, {}, f"not JSON: {first_line(error)}")
            continue
        if isinstance(value, dict):
            there = {field: None if isinstance(what, _Missing) else what for field, what in value.items()}
            yield Record(name, line, there)
        else:
            yield Record(name, line, {}, f"a JSON {type(value).__name__} where an object should be")


def read_parquet(stream: BinaryIO, name: str, encoding: str) -> Iterator[Record]:
    """Parquet, some rows at a time. `encoding` does not apply: Parquet's strings are UTF-8."""
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise UserError(f"{name}: not a Parquet file ({first_line(error)})") from None
    if twice := [column for column, times in Counter(file.schema_arrow.names).items() if times > 1]:
        raise UserError(f"{name}: the column {twice[0]!r} appears twice; rename one of them")
    line = 0
    for batch in file.iter_batches(batch_size=1024):
        for fields in batch.to_pylist():
            line += 1
            yield Record(name, line, fields)


Reader = Callable[[BinaryIO, str, str], Iterator[Record]]
READERS: dict[str, Reader] = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
