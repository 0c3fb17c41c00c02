"""The text of a file: its bytes decompressed and decoded, line by line, with notes on what was found."""

import codecs
import io
import itertools
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from codemmlu.dataset.limits import Limits, lines_within, whole_within
from codemmlu.dataset.readers.record import NoTableError, WrongBytesError
from codemmlu.dataset.readers.unpacked import Codec, unpacked

# Bytes of a file that are looked at before it is read, and after a wrong byte to find the encoding.
_HEAD = 2**16
_COMPRESSIONS: dict[bytes, Codec] = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}
_OTHERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook: unpack it, or let its name end in .xlsx",
    b"PAR1": "Parquet: let its name end in .parquet",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as .xlsx or .csv",
}
# The longer marks come first: the mark of UTF-32 begins with the mark of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The encodings that tables have in practice, by which charset-normalizer is limited: a short text fits many others.
_LIKELY = ["gb18030", "big5", "shift_jis", "euc_jp", "euc_kr", "cp1252", "cp1251", "cp1250", "utf_16_le", "utf_16_be"]


@dataclass(frozen=True)
class Text:
    """The lines of a file, with their own line ends, and notes on how the file is written."""

    lines: Iterator[str]
    notes: tuple[str, ...]


def open_text(stream: BinaryIO, name: str, encoding: str, limits: Limits) -> Text:
    """Decode a file; a compression that its name does not show, and a byte order mark, are found by content.

    Args:
        stream: The file's bytes.
        name: The file's name in errors.
        encoding: The encoding to read in.
        limits: The longest line, and the most of a file that is decoded as a whole, also of an archive.

    Returns:
        The lines, without a byte order mark. Reading them raises WrongBytesError where a byte is wrong in the
        encoding.

    Raises:
        NoTableError: The file is an archive or a document, and no text.
    """
    notes = []
    source, head = _peek(stream)
    for magic, codec in _COMPRESSIONS.items():
        if head.startswith(magic):
            notes.append(f"files that are {codec} archives in spite of their name: read as such")
            source, head = _peek(unpacked(source, codec, name))
    if what := next((what for magic, what in _OTHERS.items() if head.startswith(magic)), None):
        raise NoTableError(f"{name} is not text but {what}")
    if marked := next((marked for mark, marked in _MARKS if head.startswith(mark)), None):
        encoding = marked
        notes.append(f"files with the byte order mark of {marked.upper()}: read as such")
    if b"\r" in head and b"\n" not in head and _is_bytewise(encoding):
        notes.append("files whose lines end in a carriage return alone: read as such")
        return Text(_split_at_returns(_lines(source, name, encoding, limits)), tuple(notes))
    return Text(_lines(source, name, encoding, limits), tuple(notes))


def _peek(stream: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Return a stream of the same bytes and its first bytes."""
    buffered = io.BufferedReader(cast(io.RawIOBase, stream), _HEAD)
    return buffered, buffered.peek(_HEAD)[:_HEAD]


def _is_bytewise(encoding: str) -> bool:
    """Return whether a line ends in the byte of a line feed; it does not in UTF-16, for example."""
    return "\n\n".encode(encoding)[-2:] == b"\n\n"


def _split_at_returns(lines: Iterator[str]) -> Iterator[str]:
    return itertools.chain.from_iterable(io.StringIO(line, newline=None) for line in lines)


def _lines(stream: BinaryIO, name: str, encoding: str, limits: Limits) -> Iterator[str]:
    """Read lines with their own line ends, so that code keeps its whitespace.

    Yields:
        Lines, without a byte order mark.

    Raises:
        WrongBytesError: A byte is wrong in this encoding; the message names the line.
    """
    whole = not _is_bytewise(encoding)  # Such files are decoded whole, all others by line.
    decoder = codecs.getincrementaldecoder(encoding)()
    number = 0
    try:
        for raw in [whole_within(stream, name, limits)] if whole else lines_within(stream, name, limits):
            text = decoder.decode(raw, final=whole or not raw.endswith(b"\n"))
            for line in (text,) if 0 <= text.find("\n") == len(text) - 1 else io.StringIO(text, newline="\n"):
                number += 1
                yield line.removeprefix("\ufeff") if number == 1 else line
    except UnicodeDecodeError as error:
        wrong = error.object[error.start : error.start + 1]
        before = error.object[: error.start].decode(encoding, "ignore").count("\n") if whole else 0
        guess = _guess(bytes(error.object) + (b"" if whole else stream.read(_HEAD)))
        advice = f"it may be {guess}: set {{section}}.encoding={guess}" if guess else "set {section}.encoding"
        raise WrongBytesError(f"{name}:{number + before + 1}: byte {wrong!r} is not {encoding}; {advice}") from None


def _guess(data: bytes) -> str | None:
    """Return the most likely encoding of some bytes; None where there is no likely one."""
    from charset_normalizer import from_bytes

    if data[:_HEAD].count(b"\0") > len(data[:_HEAD]) / 4:
        return "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    best = from_bytes(data, cp_isolation=_LIKELY).best()
    if best is None:
        return None
    with suppress(UnicodeDecodeError):  # Of encodings that read the same text, the more common one is named.
        return "cp1252" if data.decode("cp1252") == str(best) else best.encoding.replace("_", "-")
    return best.encoding.replace("_", "-")
