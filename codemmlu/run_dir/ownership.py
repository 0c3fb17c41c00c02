"""Whose directory it is: a run writes only into an empty directory or into one that a run has written before."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from codemmlu.errors import UserError, first_line
from codemmlu.run_dir.directory import ATTEMPT, RunDir
from codemmlu.run_dir.names import MARK, is_hidden, is_temporary

_NOTE = b"A run of CodeMMLU on Ray writes here: it replaces and deletes the files that it wrote itself.\n"
# Fields of the manifests of an index and of an adapter, by which a directory of an earlier version is recognised.
_INDEX_FIELDS, _ADAPTER_FIELDS = {"fingerprint", "shards", "metric"}, {"fingerprint", "base_fingerprint"}
# Seconds after which a temporary file cannot belong to a worker of a killed job that is still writing.
_STALE = 3600


def claim(run: RunDir, key: str = "out") -> None:
    """Mark a directory, which exists, as one of this project; see `check_ours`."""
    check_ours(run, key)
    if not run.exists(MARK):
        run.write(MARK, _NOTE)


def check_ours(run: RunDir, key: str = "out") -> None:
    """Refuse a directory that holds files and was not written by a run.

    Args:
        run: The directory.
        key: The recipe key to name in the error.

    Raises:
        UserError: The directory is not empty and bears no mark of this project, or it cannot be listed.
    """
    try:
        entries = run.filesystem.get_file_info(fs.FileSelector(run.base, allow_not_found=True))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{run.shown} cannot be listed: {first_line(error)}", key=key) from None
    names = sorted(info.base_name for info in entries)
    foreign = [name for name in names if not is_hidden(name)]
    if foreign and MARK not in names and not _is_of_earlier_version(run):
        raise UserError(
            f"{run.shown} is not empty ({foreign[0]}{' and more' * (len(foreign) > 1)}) and no run has written "
            "it, so a run might overwrite files there; give a new or empty directory",
            key=key,
        )


def remove_leftovers(run: RunDir) -> int:
    """Remove the temporary files of killed jobs from a local directory, and return how many there were."""
    if not run.is_local:
        return 0
    oldest, removed = time.time() - _STALE, 0
    for folder, _, names in os.walk(run.base):
        for name in filter(is_temporary, names):
            file = Path(folder, name)
            try:
                status = file.lstat()
                if status.st_uid == os.getuid() and status.st_mtime < oldest:
                    file.unlink()
                    removed += 1
            except OSError:  # Another job has removed it, or may remove it.
                continue
    return removed


def _is_of_earlier_version(run: RunDir) -> bool:
    """Return whether a run of a version that did not mark its directory has written here."""
    if run.exists(ATTEMPT) and re.fullmatch(rb"[0-9a-f]{32}", run.read(ATTEMPT)):
        return True
    if any(_has_fields(run, name, _INDEX_FIELDS) for name in ("manifest.json", "index/manifest.json")):
        return True
    adapters = (f"{name}/manifest.json" for name in _folders(run, "adapters"))
    if any(_has_fields(run, name, _ADAPTER_FIELDS) for name in adapters):
        return True
    # A build of an index, or a training, that was stopped: their tables are of this project.
    trainings = (f"{name}/lessons.parquet" for name in _folders(run, "training"))
    started = ("questions/000000.parquet", "building/000000.parquet", "index/building/000000.parquet")
    return any(_is_table(run, name) for name in (*started, *trainings))


def _has_fields(run: RunDir, name: str, fields: set[str]) -> bool:
    """Return whether a file is a JSON object with all of these fields."""
    try:
        value = json.loads(run.read(name)) if run.exists(name) else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and fields <= value.keys()


def _folders(run: RunDir, name: str) -> Iterator[str]:
    """Return the folders in a folder of the run; none where it is no folder."""
    if run.has_folder(name):
        for info in run.filesystem.get_file_info(fs.FileSelector(run.path(name))):
            if info.type == fs.FileType.Directory:
                yield f"{name}/{info.base_name}"


def _is_table(run: RunDir, name: str) -> bool:
    """Return whether a file is a Parquet table with the metadata of this project."""
    if not run.exists(name):
        return False
    try:
        with run.filesystem.open_input_file(run.path(name)) as stream:
            return b"codemmlu.schema" in (pq.ParquetFile(stream).schema_arrow.metadata or {})
    except (OSError, pa.ArrowException):
        return False
