"""The reader of Excel workbooks (.xlsx): the first sheet that has rows, under a header row."""

import zipfile
from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, BinaryIO

from codemmlu.dataset.limits import DEFAULT, Limits, check_archive, check_fields
from codemmlu.dataset.readers.record import Record
from codemmlu.errors import UserError, first_line

_DATES = "cells that Excel holds as dates: read as YYYY-MM-DD"


def read_excel(stream: BinaryIO, name: str, encoding: str, limits: Limits = DEFAULT) -> Iterator[Record]:
    """Read the first sheet that has rows; `encoding` does not apply. Formulas are read as their last results.

    Yields:
        One record per row that is not blank.

    Raises:
        UserError: The file is no workbook.
    """
    from openpyxl import load_workbook  # This import is slow, and only this reader needs it.
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with zipfile.ZipFile(stream) as archive:
            check_archive(archive, name, limits)
        book = load_workbook(stream, read_only=True, data_only=True)
    except (zipfile.BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{name}: not an Excel workbook ({first_line(error)})") from None
    sheets = [sheet.title for sheet in book.worksheets]
    for sheet in book.worksheets:
        rows = enumerate(sheet.iter_rows(values_only=True), start=1)
        filled = ((line, values) for line, values in rows if any(value is not None for value in values))
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


def _plain(value: Any) -> Any:
    """Return the value of a cell; dates become text."""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return value.isoformat() if isinstance(value, date | time) else value
