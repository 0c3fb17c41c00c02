"""GGUF conversion: a GGUF file becomes a plain model directory, which is what vLLM loads.

The embedded default model is a GGUF file.
"""

import ctypes
import glob
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from codemmlu.engine.bundled import SMOLLM2, locked, unpacked
from codemmlu.engine.gguf_header import fault_of
from codemmlu.errors import UserError

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


def embedded_file(cache: Path) -> Path:
    """Return the path of the embedded model's GGUF file."""
    return unpacked(SMOLLM2, cache) / SMOLLM2.weights


def convert(file: Path, cache: Path) -> Path:
    """Convert a GGUF file into a plain model: bfloat16 safetensors and a tokenizer.

    A file is converted once: the model's folder is named by a hash of the file.

    Args:
        file: The GGUF file.
        cache: The folder below which converted models are kept.

    Returns:
        The folder of the plain model.

    Raises:
        UserError: The file is no GGUF file, describes no model, or transformers cannot read its architecture.
    """
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError(f"models: {file} is no GGUF file")
    target = cache / "models" / f"{file.stem}-{_sample_hash(file)}"
    with locked(target):
        if not (target / "config.json").exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_unfinished(target)
            building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            try:
                _convert(file, building)
                building.chmod(0o755)
                building.rename(target)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return target


def _remove_unfinished(target: Path) -> None:
    """Remove what conversions into a folder left when they were killed; the caller holds the folder's lock."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}.*"):
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _convert(file: Path, target: Path) -> None:
    """Convert a GGUF file in a separate process."""
    # transformers and torch take memory that the caller should not keep.
    done = subprocess.run(
        [sys.executable, "-m", "codemmlu.engine.gguf", str(file), str(target)],
        stdin=subprocess.DEVNULL,  # Without a terminal, no library can ask a question that nobody sees.
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"models: {file} cannot be turned into a plain model: {last[:300]}")


def _write_plain_model(file: Path, target: Path) -> None:
    """Write a GGUF file's weights and tokenizer as a plain model; runs in the separate process."""
    _end_with_parent()
    if fault := fault_of(file):
        sys.exit(fault)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # Code that lies beside the file is not run, and not asked about.
    name = {"gguf_file": file.name, "trust_remote_code": False}
    dequantize = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        str(file.parent), quantization_config=dequantize, dtype=torch.bfloat16, **name
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(str(file.parent), **name).save_pretrained(target)


def _end_with_parent() -> None:
    """Let the kernel end this process with the one that started it, of which nobody would wait for the result."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that wanted the model has ended")


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


if __name__ == "__main__":
    _write_plain_model(Path(sys.argv[1]), Path(sys.argv[2]))
