"""GGUF conversion: a GGUF file becomes a plain model directory, which is what vLLM loads.

The embedded default model is a GGUF file. `gguf_reader` reads a file in a separate process.
"""

import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from codemmlu.engine.bundled import SMOLLM2, locked, unpacked
from codemmlu.errors import UserError

# Written last, by a conversion that has checked every weight; folders of earlier versions have no such file. It has no
# suffix that a model's fingerprint reads.
_COMPLETE = ".complete"


def embedded_file(cache: Path) -> Path:
    """Return the path of the embedded model's GGUF file."""
    return unpacked(SMOLLM2, cache) / SMOLLM2.weights


def convert(file: Path, cache: Path, *, known: bool = False) -> Path:
    """Convert a GGUF file into a plain model: bfloat16 safetensors and a tokenizer.

    A file is converted once: the model's folder is named by a hash of the file.

    Args:
        file: The GGUF file.
        cache: The folder below which converted models are kept.
        known: Whether the content of the file is known to be whole, so that an earlier version's folder serves.

    Returns:
        The folder of the plain model.

    Raises:
        UserError: The file is no whole GGUF file, describes no model, or transformers cannot read its architecture.
    """
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError(f"{file} is no GGUF file", key="models")
    if (match := re.search(r"-(\d{5})-of-(\d{5})$", file.stem)) and int(match[2]) > 1:
        raise UserError(one_of_several(file, int(match[1]), int(match[2])))
    target = cache / "models" / f"{file.stem}-{_sample_hash(file)}"
    with locked(target):
        if not (target / ("config.json" if known else _COMPLETE)).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_unfinished(target)
            building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            try:
                _convert(file, building)
                (building / _COMPLETE).touch()
                building.chmod(0o755)
                shutil.rmtree(target, ignore_errors=True)
                building.rename(target)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return target


def one_of_several(file: Path, part: int, total: int) -> str:
    """Return the error message for one part of a model that is split over several GGUF files."""
    return (
        f"models: {file} is part {part} of {total} of a model: join the parts with llama.cpp's "
        "`llama-gguf-split --merge FIRST-PART OUT.gguf`, and name that file"
    )


def _remove_unfinished(target: Path) -> None:
    """Remove what conversions into a folder left when they were killed; the caller holds the folder's lock."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _convert(file: Path, target: Path) -> None:
    """Convert a GGUF file in a separate process."""
    # transformers and torch take memory that the caller should not keep.
    done = subprocess.run(
        [sys.executable, "-m", "codemmlu.engine.gguf_reader", str(file), str(target)],
        stdin=subprocess.DEVNULL,  # Without a terminal, no library can ask a question that is never shown.
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        ours = last.partition(f"{UserError.__name__}: ")[2]
        if ours:
            raise UserError(ours)
        raise UserError(f"{file} cannot be turned into a plain model: {last[:300]}", key="models")


def _sample_hash(file: Path) -> str:
    """Hash a file's size and 64 evenly spread samples of 256 KiB."""
    # To hash all of a 26 GB file takes a minute.
    size = file.stat().st_size
    state = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for sample in range(64):
            stream.seek(sample * max(0, size - 2**18) // 63)
            state.update(stream.read(2**18))
    return state.hexdigest()[:16]
