"""The content of a compressed file, as long as it is no more than text unpacks to."""

import io
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from codemmlu.dataset.limits import most_unpacked
from codemmlu.errors import UserError

Codec = Literal["gzip", "bz2", "zstd"]
CODECS: dict[str, Codec] = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


class _Counted(io.RawIOBase):
    """The bytes of a stream, and how many of them were read."""

    def __init__(self, stream: BinaryIO | pa.NativeFile) -> None:
        super().__init__()
        self._stream, self.size = stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # The stubs allow any buffer.
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self.size += len(content)
        return len(content)


class Unpacked(_Counted):
    """The unpacked bytes of an archive; reading more than its size can hold is a UserError."""

    def __init__(self, packed: BinaryIO | pa.NativeFile, codec: Codec, name: str) -> None:
        """Unpack a stream.

        Args:
            packed: The archive.
            codec: How it is compressed.
            name: The name of the file, for the error.
        """
        self._packed, self._name = _Counted(packed), name
        super().__init__(pa.CompressedInputStream(pa.PythonFile(cast(io.IOBase, self._packed), mode="r"), codec))

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read up to the length of a buffer, and return how much was read."""
        count = super().readinto(buffer)
        if self.size > most_unpacked(self._packed.size):
            raise UserError(
                f"{self._name}: {self._packed.size:,} bytes that unpack to over {self.size:,}, which no text does; "
                "if it is meant, unpack the file first"
            )
        return count


def unpacked(packed: BinaryIO | pa.NativeFile, codec: Codec, name: str) -> BinaryIO:
    """Return a stream of the unpacked bytes of an archive; see `Unpacked`."""
    return io.BufferedReader(Unpacked(packed, codec, name), 2**16)
