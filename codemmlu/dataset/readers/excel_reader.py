"""The reader of Excel workbooks (.xlsx): the first sheet that has rows, under a header row."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import Any, BinaryIO

from codemmlu.dataset.limits import DEFAULT, Limits, check_archive, check_fields
from codemmlu.dataset.readers.record import Record
from codemmlu.errors import UserError, first_line

_DATES = "cells that Excel holds as dates: read as YYYY-MM-DD"
_MOST_ROWS = 2**20  # Excel's own limit; a cell may say that it lies in any row.
_MOST_COLUMNS = 1024  # A row is filled up to its last cell, and Excel has 16,384 columns.
# What openpyxl and the libraries below it raise for parts that are missing, broken, encrypted or say odd things.
_BROKEN = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, EOFError, RuntimeError),
    *(SyntaxError, MemoryError, zipfile.BadZipFile, zlib.error),
)


def read_excel(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read the first sheet that has rows; `encoding` does not apply. Formulas are read as their last results.

    Yields:
        One record per row that is not blank. A file that is no workbook, or exceeds a limit, is a UserError.
    """
    from openpyxl import load_workbook  # This import is slow, and only this reader needs it.

    with _readable(name):
        with zipfile.ZipFile(stream) as archive:
            check_archive(archive, stream.seek(0, io.SEEK_END), name, limits)
        book = load_workbook(stream, read_only=True, data_only=True)
        sheets = [sheet.title for sheet in book.worksheets]
    for sheet in book.worksheets:
        filled = _filled(sheet, name)
        _, top = next(filled, (0, ()))
        if not top:
            continue
        others = [title for title in sheets if title != sheet.title]
        notes = [f"workbooks of which the first sheet with rows is read, and not {', '.join(others)}"] if others else []
        header = ["" if value is None else str(value).strip() for value in top]
        for line, values in filled:
            dates = [_DATES] if any(isinstance(value, date | time) for value in values) else []
            fields = {column: _plain(value) for column, value in zip(header, values, strict=False) if column}
            check_fields(f"{name}:{line}", fields, limits)
            yield Record(name, line, fields, notes=(*notes, *dates))
            notes = []
        return


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Say in one line that a file is no workbook."""
    try:
        yield
    except _BROKEN as error:
        raise UserError(f"{name}: not an Excel workbook ({first_line(error)})") from None


def _filled(sheet: Any, name: str) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Return the rows of a sheet that are not blank, each with its number."""
    blank: tuple[Any, ...] | None = None
    with _readable(name):
        sheet.reset_dimensions()  # A workbook may say less, or more, than its cells do.
        for line, values in enumerate(sheet.iter_rows(max_col=_MOST_COLUMNS, values_only=True), start=1):
            if line > _MOST_ROWS:
                raise UserError(f"{name}: a sheet of more than {_MOST_ROWS:,} rows, which Excel cannot hold")
            if values is blank:  # All rows that the file leaves out are one object.
                continue
            if values.count(None) == len(values):
                blank = values
                continue
            last = max(index for index, value in enumerate(values) if value is not None)
            yield line, values[: last + 1]


def _plain(value: Any) -> Any:
    """Return the value of a cell; dates become text."""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return value.isoformat() if isinstance(value, date | time) else value
