"""Model files: checks and a fingerprint of the files in a model directory."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from codemmlu.errors import UserError, first_line

INDEX = "model.safetensors.index.json"  # names the file of each tensor, where the weights are in several files
# Suffixes of configurations, tokenizers (also merges.txt), chat templates, and the code that some models bring along.
_SMALL = (".json", ".jinja", ".model", ".txt", ".tiktoken", ".py")


def read_config(folder: Path, source: str) -> dict[str, Any]:
    """Read the config.json of a model directory.

    Args:
        folder: The directory.
        source: The recipe's `source` of the model, for error messages.

    Returns:
        The content of config.json.

    Raises:
        UserError: config.json is missing or broken, or the directory has no safetensors weights or no tokenizer.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except OSError:
        raise UserError(f"{source} has no config.json: not a model directory", key="models") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{source}/config.json is broken: {first_line(error)}", key="models") from None
    if not isinstance(config, dict):
        raise UserError(f"{source}/config.json is broken: it holds no object", key="models")
    if not any(folder.glob("*.safetensors")):
        pickled = sorted(f.name for f in (*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")))
        has = f"only {pickled[0]}, which would run code when read; convert it to safetensors" if pickled else "none"
        raise UserError(f"{source}: weights must be .safetensors, it has {has}", key="models")
    if not any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "tekken.json")):
        raise UserError(f"{source} has no tokenizer (tokenizer.json or tokenizer.model)", key="models")
    return config


def check_complete(folder: Path, source: str) -> None:
    """Refuse a model directory in which a weight file is missing that the index of the weights names.

    Args:
        folder: The directory.
        source: The recipe's `source` of the model, for error messages.

    Raises:
        UserError: A file is missing, or the index is broken.
    """
    index = folder / INDEX
    if not index.exists():  # Only weights in several files have an index.
        return
    try:
        named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = [name for name in named if not (folder / name).exists()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{source}/{index.name} is broken: {error!r}", key="models") from None
    if missing:
        raise UserError(f"{source} has no {missing[0]}, which its index names: an incomplete copy", key="models")


def tensor_starts(file: Path) -> list[int]:
    """Return where the tensors of a safetensors file begin, in bytes; refuse an incomplete file."""
    try:
        if not file.is_file():
            raise ValueError("it is a pipe, a device or a folder")
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > 100_000_000:
                raise ValueError("its header is not one")
            header = json.loads(stream.read(length))
        spans = [tensor["data_offsets"] for name, tensor in header.items() if name != "__metadata__"]
        if not all(type(edge) is int and 0 <= edge < 2**63 for span in spans for edge in span):
            raise ValueError("a tensor lies outside")
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise UserError(f"{file} is no safetensors file: {first_line(error)}", key="models") from None
    # The header gives the length of the file, so a download that was cut off is refused before minutes of loading.
    expected = 8 + length + max(ends, default=0)
    if file.stat().st_size != expected:
        raise UserError(f"{file} has {file.stat().st_size:,} bytes, not {expected:,}: an incomplete copy", key="models")
    return sorted(8 + length + start for start in starts)


def content_fingerprint(folder: Path, weights: dict[Path, list[int]]) -> str:
    """Hash all small files, and each weight file's size, header and first 4 KiB of every tensor."""
    # Reading 60 GB to name a model would take longer than answering with it. Training does not change every tensor, but
    # it changes a tensor everywhere, so the first bytes of every tensor are enough.
    state = hashlib.sha256()
    small = [f for f in folder.iterdir() if f.suffix in _SMALL and f.is_file()]
    for file in sorted(small):
        state.update(file.name.encode() + b"\0" + file.read_bytes())
    for file, starts in weights.items():
        state.update(f"{file.name}\0{file.stat().st_size}".encode())
        with file.open("rb") as stream:
            state.update(stream.read(min(starts, default=None)))
            for start in starts:
                stream.seek(start)
                state.update(stream.read(2**12))
    return state.hexdigest()[:32]
