"""The readers of typed tables: Parquet files, and tables of the Hub; numbers that are no text are read as written."""

import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from codemmlu.dataset.limits import DEFAULT, Limits, check_fields, check_parquet
from codemmlu.dataset.readers.record import Record
from codemmlu.errors import UserError, first_line

Convert = Callable[[Any], Any]


def read_parquet(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read Parquet, some rows at a time; `encoding` does not apply, because Parquet's strings are UTF-8.

    Yields:
        One record per row.

    Raises:
        UserError: The file is not Parquet, a column appears twice, or a part exceeds its limit.
    """
    try:
        file = pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise UserError(f"{name}: not a Parquet file ({first_line(error)})") from None
    schema = file.schema_arrow
    if twice := [column for column, times in Counter(schema.names).items() if times > 1]:
        raise UserError(f"{name}: the column {twice[0]!r} appears twice; rename one of them")
    check_parquet(file, stream.seek(0, io.SEEK_END), name, limits)
    holes = {
        field.name
        for field in schema
        if pa.types.is_floating(field.type) and is_integers_with_holes(file.read(columns=[field.name]).column(0))
    }
    # Few rows at a time: each may be as long as a field may be, and one stored text may stand in all of them.
    for record in records(file.iter_batches(batch_size=64), name, schema, holes):
        check_fields(f"{name}:{record.line}", record.fields, limits)
        yield record


def records(batches: Iterable[pa.RecordBatch], name: str, schema: pa.Schema, holes: set[str]) -> Iterator[Record]:
    """Return the records of a typed table.

    Args:
        batches: The rows.
        name: The name of the file.
        schema: The types of the columns.
        holes: The columns of integers that a missing value has made floating.

    Yields:
        One record per row; NaN is missing.
    """
    converts = {field.name: convert for field in schema if (convert := _converter(field.type))}
    line = 0
    for batch in batches:
        for fields in batch.to_pylist():
            line += 1
            for column, convert in converts.items():
                fields[column] = convert(fields[column])
            for column in holes:
                fields[column] = None if fields[column] is None else int(fields[column])
            yield Record(name, line, fields)


def is_integers_with_holes(column: "pa.ChunkedArray[Any]") -> bool:
    """Return whether a floating column holds integers, and missing values, for which pandas makes integers floating."""
    values = column.drop_null()
    numbers = values.filter(pc.is_finite(values))
    has_holes = len(numbers) < len(column)
    return has_holes and len(numbers) > 0 and bool(pc.all(pc.equal(numbers, pc.floor(numbers))).as_py())


def _converter(kind: pa.DataType) -> Convert | None:
    """Return the function that makes NaN missing and float32 as short as it was written; None: nothing to change."""
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        return lambda value: None if value is None or math.isnan(value) else float(str(np.float32(value)))
    if pa.types.is_float64(kind):
        return lambda value: None if value is None or math.isnan(value) else value
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _converter(kind.value_type)
        return inner and (lambda value: value if value is None else [inner(item) for item in value])
    if pa.types.is_struct(kind):
        inside = {field.name: convert for field in kind if (convert := _converter(field.type))}
        return _of_struct(inside) if inside else None
    return None


def _of_struct(inside: dict[str, Convert]) -> Convert:
    def convert(value: dict[str, Any] | None) -> dict[str, Any] | None:
        return value and {name: inside[name](item) if name in inside else item for name, item in value.items()}

    return convert
