"""Weight files: what the headers and the names of safetensors files say before any weight is read."""

import json
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codemmlu.errors import UserError

# How a file begins that git-lfs has put in the place of the real one.
LFS_POINTER = b"version https://git-lfs"
_PART = re.compile(r"(.+)-(\d{5,6})-of-(\d{5,6})\.safetensors")  # DeepSeek-V3: 00001-of-000163
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_MOST_POINTER_BYTES = 1024
_MOST_HEADER_BYTES = 100_000_000
# The tensors by which formats store the weight of a linear layer.
_STORED_AS = ("weight", "qweight", "weight_packed", "B")


@dataclass(frozen=True)
class Layer:
    """A layer that a model's weight files hold.

    Attributes:
        outputs: The width of the output; None where the number format hides the width.
        inputs: The width of the input; None where the number format hides the width.
    """

    outputs: int | None
    inputs: int | None


def read_shapes(file: Path, what: str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of all tensors from the header of a safetensors file.

    Args:
        file: The file.
        what: The recipe key and the name of what the file belongs to, for error messages.

    Returns:
        The shapes, by the tensors' names.

    Raises:
        UserError: The file is a pointer of git-lfs, is cut off or is no safetensors file.
    """
    refuse_pointer(file, what)
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            header: dict[str, Any] = json.loads(stream.read(min(length, _MOST_HEADER_BYTES)))
        tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
        shapes = {name: tuple(int(size) for size in tensor["shape"]) for name, tensor in tensors.items()}
        expected = 8 + length + max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{what}: {file.name} is no safetensors file: {error}") from None
    if (size := file.stat().st_size) != expected:
        raise UserError(f"{what}: {file.name} has {size:,} bytes, not {expected:,}: an incomplete copy")
    return shapes


def is_zero(file: Path, suffixes: tuple[str, ...]) -> bool:
    """Return whether all tensors of a safetensors file whose names end so hold zeros alone."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
        for name, tensor in header.items():
            if name != "__metadata__" and name.endswith(suffixes):
                start, end = tensor["data_offsets"]
                stream.seek(8 + length + start)
                if any(stream.read(end - start)):
                    return False
    return True


def refuse_pointer(file: Path, what: str) -> None:
    """Refuse a file that git-lfs has put in the place of the real file, and what is no file, such as a pipe."""
    if not file.is_file():  # To open a pipe waits for a writer.
        raise UserError(f"{what}: {file.name} is no file")
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UserError(f"{what}: {file.name} is only git-lfs's pointer to the file; fetch it with `git lfs pull`")


def refuse_pointers(folder: Path, what: str) -> None:
    """Refuse a model directory in which git-lfs has put a pointer in the place of any file, such as the tokenizer."""
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.stat().st_size < _MOST_POINTER_BYTES:
            refuse_pointer(file, what)


def refuse_missing_layers(folder: Path, config: Mapping[str, Any], what: str) -> None:
    """Refuse a quantised model whose weight files lack whole layers, which vLLM would leave as they were made.

    Args:
        folder: The directory of the model.
        config: The content of its config.json.
        what: The model, for the error message.

    Raises:
        UserError: A layer is missing.
    """
    text = config.get("text_config")
    depth = (text if isinstance(text, dict) else config).get("num_hidden_layers")
    if not config.get("quantization_config") or not isinstance(depth, int):
        return
    files = sorted(folder.glob("*.safetensors"))
    names = (match for file in files for name in read_shapes(file, what) if (match := _LAYER.search(name)))
    numbers = {int(match[1]) for match in names}
    missing = [number for number in range(depth) if number not in numbers]
    if numbers and missing:
        raise UserError(
            f"{what} has weights for {depth - len(missing)} of its {depth} layers: those of layer {missing[0]} are "
            "missing; copy or download it again"
        )


def refuse_missing_parts(names: Iterable[str], what: str) -> None:
    """Refuse weights in several files of which one is missing, by the numbers in the files' names.

    vLLM reads the files that are there and leaves the layers of a missing file as they were made, with random numbers.

    Args:
        names: The names of the weight files.
        what: The model, for the error message.

    Raises:
        UserError: A part is missing.
    """
    parts: dict[tuple[str, str], set[int]] = defaultdict(set)
    for name in names:
        if match := _PART.fullmatch(name):
            parts[match[1], match[3]].add(int(match[2]))
    for (stem, total), numbers in sorted(parts.items()):
        first = next((number for number in range(1, int(total) + 1) if number not in numbers), None)
        if first is not None:
            raise UserError(
                f"{what} has {len(numbers)} of {int(total)} weight files: {stem}-{first:05d}-of-{total}.safetensors is "
                "missing; copy or download it again"
            )


def layers_of(folder: Path, config: Mapping[str, Any]) -> dict[str, Layer]:
    """Read which layers a model directory holds, by the headers of its weight files.

    Args:
        folder: The directory.
        config: The content of its config.json, which names the number format.

    Returns:
        The layers by their names in the model, such as `model.layers.0.self_attn.q_proj`.
    """
    layers = {}
    for file in sorted(folder.glob("*.safetensors")):
        for name, shape in read_shapes(file, f"models: {folder}").items():
            layer, _, tensor = name.rpartition(".")
            if layer and tensor in _STORED_AS:
                layers[layer] = _layer(tensor, shape, config.get("quantization_config") or {})
            elif layer:
                layers.setdefault(layer, Layer(None, None))
    return layers


def _layer(tensor: str, shape: tuple[int, ...], quantization: Mapping[str, Any]) -> Layer:
    """Return the widths of a layer from the shape of the tensor that holds its weight."""
    method = str(quantization.get("quant_method", ""))
    if len(shape) != 2:
        return Layer(None, None)
    if tensor == "weight" and method in ("", "fp8", "compressed-tensors"):
        return Layer(shape[0], shape[1])
    if tensor == "qweight" and method == "awq":  # inputs x packed outputs
        return Layer(None, shape[0])
    if tensor == "qweight" and method == "gptq":  # packed inputs x outputs
        return Layer(shape[1], None)
    if tensor == "weight_packed":  # outputs x packed inputs
        return Layer(shape[0], None)
    return Layer(None, None)
