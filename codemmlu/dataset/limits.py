"""Limits of what a file may say: memory follows a line, a field or a row group, however small the file is."""

import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from codemmlu.errors import UserError

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_MIB = 2**20
# Rows that a byte of a Parquet file may stand for; a run-length encoding holds billions in a few bytes.
_ROWS_PER_BYTE = 100
_FEW_ROWS = 10_000
_MOST_BLANK = 100_000  # lines in a row
# Bytes that a byte of an archive may stand for beyond the first ones; text has 3 to 50, and a bomb 1,000 and more.
_UNPACKED_PER_BYTE = 200
_FEW_BYTES = 2 * _MIB


@dataclass(frozen=True)
class Limits:
    """The limits of one source, in MiB; see recipe/data.py.

    Attributes:
        line: The longest line.
        field: The longest field.
        row_group: The largest row group of a Parquet file.
        section: The section of the recipe that sets them; empty where no setting does.
    """

    line: int = 32
    field: int = 16
    row_group: int = 1024
    section: str = "questions"

    @property
    def line_bytes(self) -> int:
        """The most bytes of a line."""
        return self.line * _MIB

    @property
    def field_characters(self) -> int:
        """The most characters of a field."""
        return self.field * _MIB

    def advice(self, key: str) -> str:
        """Return what helps where a limit is exceeded, by the recipe key of the limit in its section."""
        return f"; if it is meant, raise {self.section}.{key}" if self.section else ""

    @property
    def file_bytes(self) -> int:
        """The most bytes of a text file that is decoded as a whole."""
        return 8 * self.line_bytes


DEFAULT = Limits()


def too_long(location: str, what: str, limits: Limits) -> str:
    """Return the message on a field that is longer than its limit, by the file and the line, and its name."""
    return f"{location}: {what} of more than {limits.field:,} MiB{limits.advice('max_field_mib')}"


def lines_within(stream: BinaryIO, name: str, limits: Limits) -> Iterator[bytes]:
    """Read lines as bytes.

    Yields:
        The lines, with their ends.

    Raises:
        UserError: A line is too long, of which the rest is not read, or too many are blank.
    """
    blank = 0
    for number in itertools.count(1):
        raw = stream.readline(limits.line_bytes + 1)
        if len(raw) > limits.line_bytes:
            advice = limits.advice("max_line_mib")
            raise UserError(f"{name}:{number}: a line of more than {limits.line:,} MiB{advice}")
        if not raw:
            return
        blank = blank + 1 if len(raw) < 3 and raw.isspace() else 0
        if blank > _MOST_BLANK:
            raise UserError(f"{name}:{number}: more than {_MOST_BLANK:,} blank lines in a row, which no table has")
        yield raw


def whole_within(stream: BinaryIO, name: str, limits: Limits) -> bytes:
    """Return all bytes of a stream.

    Raises:
        UserError: There are too many to be decoded as a whole.
    """
    raw = stream.read(limits.file_bytes + 1)
    if len(raw) > limits.file_bytes:
        most = 8 * limits.line
        raise UserError(f"{name}: more than {most:,} MiB in an encoding that is read as a whole; save it as UTF-8")
    return raw


def join_within(lines: Iterable[str], name: str, limits: Limits) -> str:
    """Return the text of lines that are read as one whole.

    Raises:
        UserError: There are too many to be read as a whole.
    """
    taken, size = [], 0
    for line in lines:
        taken.append(line)
        size += len(line)
        if size > limits.file_bytes:
            most = 8 * limits.line
            raise UserError(f"{name}: more than {most:,} MiB in rows over several lines; write one object per line")
    return "".join(taken)


def most_unpacked(size: int) -> int:
    """Return the most bytes that an archive of `size` bytes may unpack to."""
    return _UNPACKED_PER_BYTE * size + _FEW_BYTES


def check_archive(archive: zipfile.ZipFile, size: int, name: str, limits: Limits) -> None:
    """Refuse a workbook that unpacks to too much.

    Args:
        archive: The workbook, of which as much is unpacked as it says.
        size: Its size in bytes.
        name: Its name.
        limits: The limits.

    Raises:
        UserError: One part is too large, or all parts are too large for the file.
    """
    for part in archive.infolist():
        if part.file_size > limits.file_bytes:
            most = 8 * limits.line
            raise UserError(f"{name}: {part.filename[:80]!r} in it unpacks to more than {most:,} MiB; save it as CSV")
    unpacked = sum(part.file_size for part in archive.infolist())
    if unpacked > most_unpacked(size):
        raise UserError(f"{name}: {size:,} bytes that unpack to {unpacked:,}, which no table does; save it as CSV")


def check_fields(location: str, fields: Mapping[str, object], limits: Limits) -> None:
    """Refuse a row with a text that is too long.

    Raises:
        UserError: There is such a text.
    """
    most = limits.field_characters
    for name, value in fields.items():
        if isinstance(value, str | bytes) and len(value) > most:
            raise UserError(too_long(location, f"the field {name[:40]!r}", limits))


def check_parquet(file: "pq.ParquetFile", size: int, name: str, limits: Limits) -> None:
    """Refuse a Parquet file that says it holds more than memory or its size can.

    Args:
        file: The open file.
        size: Its size in bytes.
        name: Its name.
        limits: The limits.

    Raises:
        UserError: A row group is too large, or there are more rows or values than the file can hold.
    """
    metadata = file.metadata
    if metadata.num_rows > _FEW_ROWS + _ROWS_PER_BYTE * size:
        raise UserError(f"{name}: {metadata.num_rows:,} rows in {size:,} bytes, which cannot be questions")
    values = 0
    for group in range(metadata.num_row_groups):
        chunks = map(metadata.row_group(group).column, range(metadata.num_columns))
        values += sum(chunk.num_values for chunk in chunks)
        if metadata.row_group(group).total_byte_size > limits.row_group * _MIB:
            advice = limits.advice("max_row_group_mib")
            raise UserError(f"{name}, row group {group}: data of more than {limits.row_group:,} MiB{advice}")
    if values > metadata.num_columns * _FEW_ROWS + _ROWS_PER_BYTE * size:  # Lists of billions are a few bytes, too.
        raise UserError(f"{name}: {values:,} values in {size:,} bytes, which cannot be questions")
