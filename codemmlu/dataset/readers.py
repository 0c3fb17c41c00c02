"""The readers: an open file becomes records, each a line number and uncleaned fields."""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from codemmlu.dataset.limits import DEFAULT, Limits, check_fields, check_parquet, lines_within, too_long, whole_within
from codemmlu.errors import UserError, first_line


@dataclass(frozen=True)
class Record:
    """One row of a source.

    Attributes:
        file: The name of the file.
        line: Counts from 1: the row's first physical line in a text file, the row in Parquet.
        fields: The values by column, as the file writes them.
        fault: The reason why a row could not be read, and so has no fields; written `kind` or `kind: details`.
        note: An oddity of a row that could be read all the same.
    """

    file: str
    line: int
    fields: dict[str, Any]
    fault: str | None = None
    note: str | None = None


class WrongBytesError(UserError):
    """The error of a file that is not written in the encoding in which it is read."""


def _lines(stream: BinaryIO, name: str, encoding: str, limits: Limits) -> Iterator[str]:
    """Read lines with their own line ends, so that code keeps its whitespace.

    Yields:
        Lines, without a byte order mark.

    Raises:
        WrongBytesError: A byte is wrong in this encoding; the message names the line.
    """
    # Encodings such as utf-16 have other bytes at a line's end, so such files are decoded whole, all others by line.
    whole = "\n\n".encode(encoding)[-2:] != b"\n\n"
    decoder = codecs.getincrementaldecoder(encoding)()
    number = 0
    try:
        for raw in [whole_within(stream, name, limits)] if whole else lines_within(stream, name, limits):
            text = decoder.decode(raw, final=whole or not raw.endswith(b"\n"))
            for line in io.StringIO(text, newline="\n"):
                number += 1
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 1]
        before = error.object[: error.start].decode(encoding, "ignore").count("\n") if whole else 0
        raise WrongBytesError(f"{name}:{number + before + 1}: byte {wrong!r} is not {encoding}") from None


def read_csv(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read CSV with a header line; quoted fields may span lines.

    Yields:
        One record per row that is not blank.

    Raises:
        UserError: A column appears twice, or quoting is broken, which would swallow rows.
    """
    csv.field_size_limit(limits.field_characters)
    reader = csv.reader(_lines(stream, name, encoding, limits), strict=True)
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
        if "field larger than" in str(error):
            raise UserError(too_long(f"{name}:{line}", "a field", limits.field, "max_field_mib")) from None
        raise UserError(
            f"{name}:{line}: broken CSV quoting in the row that begins here ({error} in line {reader.line_num}); "
            "fix its quotes"
        ) from None


class _Missing(str):
    """NaN, which pandas writes for a missing value: it may be a choice in a list, but never a field."""


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


def read_jsonl(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read one JSON object per line.

    Numbers stay as they are written: 1.50 is not 1.5 where it is a choice. A field that is NaN is missing.

    Yields:
        One record per line that is not blank.
    """
    for line, text in enumerate(_lines(stream, name, encoding, limits), start=1):
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
            check_fields(f"{name}:{line}", value, limits)
            fields = {field: None if isinstance(item, _Missing) else item for field, item in value.items()}
            yield Record(name, line, fields)
        else:
            yield Record(name, line, {}, f"a JSON {type(value).__name__} where an object should be")


def read_parquet(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read Parquet, some rows at a time; `encoding` does not apply, because Parquet's strings are UTF-8.

    Yields:
        One record per row.

    Raises:
        UserError: The file is not Parquet, or a column appears twice.
    """
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise UserError(f"{name}: not a Parquet file ({first_line(error)})") from None
    if twice := [column for column, times in Counter(file.schema_arrow.names).items() if times > 1]:
        raise UserError(f"{name}: the column {twice[0]!r} appears twice; rename one of them")
    check_parquet(file, stream.seek(0, io.SEEK_END), name, limits)
    line = 0
    # Few rows at a time: each may be as long as a field may be, and one stored text may stand in all of them.
    for batch in file.iter_batches(batch_size=64):
        for fields in batch.to_pylist():
            line += 1
            check_fields(f"{name}:{line}", fields, limits)
            yield Record(name, line, fields)


Reader = Callable[[BinaryIO, str, str, Limits], Iterator[Record]]
READERS: dict[str, Reader] = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
