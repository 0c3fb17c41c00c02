"""Faults of a training that a new attempt would meet again: they end the training at once, in one line."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from codemmlu.errors import UserError, first_line, is_disk_full
from codemmlu.run_dir import RunDir, disk_is_full
from codemmlu.training.job_spec import FAULT, TrainJobSpec, too_large

_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # torch has no exception type for this
# Errors of the libraries' own checks, which depend on the model and the recipe alone.
_MISTAKES = (ValueError, TypeError, LookupError, AttributeError, ImportError, NotImplementedError, AssertionError)


def describe(error: Exception, spec: TrainJobSpec, scratch: str | None = None) -> str | None:
    """Return the message for an error that a new attempt would meet again.

    Args:
        error: The error of a worker.
        spec: The worker's job.
        scratch: The folder of the worker's temporary files; None: the machine's.

    Returns:
        One line; None for an error that may pass.
    """
    if isinstance(error, UserError):
        return str(error)
    if is_disk_full(error):
        return _full(spec, scratch)
    if type(error).__name__ == "OutOfMemoryError" or _CPU_OUT_OF_MEMORY in str(error):
        return str(too_large(spec.settings))
    if not isinstance(error, _MISTAKES):
        return None
    remedy = ""
    if "trust_remote_code" in str(error):
        remedy = f"; models.{spec.settings.model}.trust_remote_code=true lets it run"
    return f"finetune.model: {spec.source} cannot be trained as the recipe says: {first_line(error)}{remedy}"


def leave(folder: RunDir, text: str) -> None:
    """Write a fault for the driver and for all workers; on a full disk, a file without content."""
    try:
        folder.write(FAULT, text.encode())
    except UserError:
        folder.filesystem.open_output_stream(folder.path(FAULT)).close()


def read(folder: RunDir) -> str | None:
    """Return the fault that a worker left; None without one."""
    if not folder.exists(FAULT):
        return None
    return folder.read(FAULT).decode() or disk_is_full(folder.shown, folder.base)


def _full(spec: TrainJobSpec, scratch: str | None) -> str:
    """Return the message for a full disk: the one of the run directory, or the one of temporary files."""
    run, temporary = RunDir(spec.address), scratch or tempfile.gettempdir()
    places = {run.shown: run.base} if run.is_local else {}
    places[temporary] = temporary
    free = {shown: shutil.disk_usage(path).free for shown, path in places.items() if Path(path).exists()}
    fullest = min(free, key=lambda shown: free[shown], default=temporary)
    return disk_is_full(fullest, places[fullest], _size(Path(scratch)) if scratch else 0)


def _size(folder: Path) -> int:
    """Return the bytes of a folder's files, of which a checkpoint is a copy."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # A file may go meanwhile.
            total += file.stat().st_size if file.is_file() else 0
    return total
