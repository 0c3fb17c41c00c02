"""The header of a GGUF file, read without loading its vocabulary or its tensors.

Source: the format's specification, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

import struct
from pathlib import Path
from typing import BinaryIO

# Bytes of a value by the number of its type; 8 is a text and 9 an array.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _ARRAY = 8, 9
_LONGEST_NAME = 65_535


def fault_of(file: Path) -> str:
    """Return what a file lacks to be a model, or an empty text.

    Args:
        file: The file.

    Returns:
        For example that it has no tensors: transformers would take its own default sizes for those that are missing.
    """
    try:
        with file.open("rb") as stream:
            _, tensors, fields = struct.unpack("<IQQ", _read(stream, 24)[4:])
            texts: dict[str, str] = {}
            split: dict[str, int] = {}
            for _ in range(fields):
                name = _text(stream, _LONGEST_NAME)
                (kind,) = struct.unpack("<I", _read(stream, 4))
                if name in ("split.no", "split.count") and kind in _SIZES:
                    split[name] = int.from_bytes(_read(stream, _SIZES[kind]), "little")
                    continue
                texts[name] = _text(stream) if name == "general.architecture" and kind == _TEXT else ""
                if not texts[name]:
                    _skip(stream, kind, file.stat().st_size)
    except (EOFError, struct.error, ValueError, KeyError) as error:
        return f"its header is broken: {error}"
    architecture = texts.get("general.architecture")
    if not architecture and split.get("split.count", 1) > 1:  # Only the first part describes the model.
        return f"it is part {split.get('split.no', 0) + 1} of {split['split.count']} of a model; join the parts first"
    if not architecture:
        return "it names no architecture"
    if not tensors:
        return "it has no tensors"
    missing = [key for key in ("block_count", "embedding_length") if f"{architecture}.{key}" not in texts]
    return f"it lacks {architecture}.{missing[0]}" if missing else ""


def text_of(file: Path, wanted: str) -> str | None:
    """Return a text of the header by its name, such as `tokenizer.chat_template`; None where there is no such text."""
    try:
        with file.open("rb") as stream:
            _, _, fields = struct.unpack("<IQQ", _read(stream, 24)[4:])
            for _ in range(fields):
                name = _text(stream, _LONGEST_NAME)
                (kind,) = struct.unpack("<I", _read(stream, 4))
                if name == wanted and kind == _TEXT:
                    return _text(stream)
                _skip(stream, kind, file.stat().st_size)
    except (EOFError, struct.error, ValueError, KeyError):
        return None
    return None


def _read(stream: BinaryIO, size: int) -> bytes:
    """Return exactly `size` bytes; an EOFError where the file ends before."""
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it was cut off")
    return content


def _text(stream: BinaryIO, most: int = 2**20) -> str:
    """Return a text; a ValueError where it is longer than `most` bytes, or not UTF-8."""
    (length,) = struct.unpack("<Q", _read(stream, 8))
    if length > most:
        raise ValueError(f"a name of {length:,} bytes")
    return _read(stream, length).decode()


def _skip(stream: BinaryIO, kind: int, size: int) -> None:
    """Pass over a value; a ValueError where an array is longer than the file, or holds arrays."""
    count = 1
    if kind == _ARRAY:
        kind, count = struct.unpack("<IQ", _read(stream, 12))
        if kind == _ARRAY or count > size:
            raise ValueError(f"an array of {count:,}")
    if kind != _TEXT:
        stream.seek(_SIZES[kind] * count, 1)
        return
    for _ in range(count):
        (length,) = struct.unpack("<Q", _read(stream, 8))
        if length > size:
            raise ValueError(f"a text of {length:,} bytes")
        stream.seek(length, 1)
