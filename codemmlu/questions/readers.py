"""Readers: an open file to records. A record is a line number and the fields as they stand there, uncleaned."""

import codecs
import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from codemmlu.errors import UserError


@dataclass(frozen=True)
class Record:
    """One row of a source. `line` counts from 1: the first physical line in text files, the row in Parquet.

    A row that could not even be read has `fault` set and no fields.
    """

    file: str
    line: int
    fields: dict[str, Any]
    fault: str | None = None


def _lines(stream: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Lines with their own line ends, so that code keeps its whitespace; wrong bytes are an error with their place."""
    decoder = codecs.getincrementaldecoder(encoding)()
    number = 0
    for number, raw in enumerate(stream, start=1):
        try:
            yield decoder.decode(raw)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name}:{number}: byte {raw[error.start : error.start + 1]!r} is not {encoding}; "
                "set questions.encoding to what the file is written in (for example cp1252)"
            ) from None
    if rest := decoder.decode(b"", final=True):
        yield rest


def read_csv(stream: BinaryIO, name: str, encoding: str) -> Iterator[Record]:
    """CSV with a header line; quoted fields may span lines. Broken quoting would swallow rows, so it is an error."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    # utf-16 has NULs inside its line ends: such files are decoded whole, all others line by line
    if encoding.replace("-", "").lower().startswith("utf16"):
        stream = io.BytesIO(stream.read().decode(encoding).encode())
        encoding = "utf-8"
    reader = csv.reader(_lines(stream, name, encoding), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        repeated = sorted({column for column in header if column and header.count(column) > 1})
        if repeated:
            raise UserError(f"{name}:1: the column {repeated[0]!r} appears twice; rename one of them")
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            if not values:
                continue
            if len(values) > len(header):
                yield Record(name, line, {}, f"{len(values)} fields under a header of {len(header)}")
            else:
                yield Record(name, line, dict(zip(header, values, strict=False)))
    except csv.Error as error:
        raise UserError(f"{name}:{reader.line_num}: broken CSV quoting ({error}); fix the quotes near there") from None


def read_jsonl(stream: BinaryIO, name: str, encoding: str) -> Iterator[Record]:
    """One JSON object a line."""
    for line, text in enumerate(_lines(stream, name, encoding), start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield Record(name, line, {}, f"not JSON: {error}")
            continue
        if isinstance(value, dict):
            yield Record(name, line, value)
        else:
            yield Record(name, line, {}, f"a JSON {type(value).__name__} where an object should be")


def read_parquet(stream: BinaryIO, name: str, encoding: str) -> Iterator[Record]:
    """Parquet, one row group at a time. `encoding` does not apply: Parquet's strings are UTF-8."""
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise UserError(f"{name}: not a Parquet file ({str(error).splitlines()[0]})") from None
    line = 0
    for batch in file.iter_batches(batch_size=1024):
        for fields in batch.to_pylist():
            line += 1
            yield Record(name, line, fields)


Reader = Callable[[BinaryIO, str, str], Iterator[Record]]
READERS: dict[str, Reader] = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}
