"""The readers: an open file becomes records, each a line number and uncleaned fields. A new format is one entry."""

from collections.abc import Callable, Iterator
from typing import BinaryIO

from codemmlu.dataset.limits import Limits
from codemmlu.dataset.readers.arrow_reader import read_parquet
from codemmlu.dataset.readers.csv_reader import read_csv
from codemmlu.dataset.readers.excel_reader import read_excel
from codemmlu.dataset.readers.json_reader import read_json
from codemmlu.dataset.readers.record import NoTableError, Record, WrongBytesError

Reader = Callable[[BinaryIO, str, str, Limits], Iterator[Record]]
READERS: dict[str, Reader] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".jsonl": read_json,
    ".json": read_json,
    ".parquet": read_parquet,
    ".xlsx": read_excel,
}
# Formats with an index at the end, which are opened for seeking and are compressed inside.
SEEKING = (".parquet", ".xlsx")

__all__ = ["READERS", "SEEKING", "NoTableError", "Reader", "Record", "WrongBytesError"]
