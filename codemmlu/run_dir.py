"""A run directory: where a run keeps things, on a local path or any address pyarrow can write (s3://, gs://).

    recipe.yaml         the resolved recipe
    questions/          the cleaned questions, longest first within a file
    rejected.parquet    rows that could not be asked, with reason, file and line
    pending/<pool>/     what the present issue still has to ask, one file a block
    answers/<pool>/     one row per question and ask, one file a block
    index/              the index of solved examples, where a voter looks at some
    voters.parquet verdicts.parquet submission.csv report.json

A file appears whole or not at all: local files are renamed into place, object stores get a file in one piece.
"""

import errno
import fcntl
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from codemmlu.errors import UserError
from codemmlu.schema import SCHEMA_VERSION

ISSUE = ".issue"  # names the job that writes here now


def _hidden(match: re.Match[str]) -> str:
    return "//" if match[0].startswith("//") else ""


def check_persistent_path(place: str, key: str = "out") -> None:
    """A relative path of a submitted job would lie in Ray's copy of the working directory, which Ray deletes."""
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted and "://" not in place and not os.path.isabs(os.path.expanduser(place)):
        raise UserError(
            f"{key}: {place} is relative, and a submitted job's working directory is deleted by Ray; "
            "give an absolute path or an s3:// or gs:// address"
        )


class RunDir:
    """Reads and writes below one directory. It crosses to workers as its `address`, a plain string.

    shown: the address for people, without the keys and options that an s3:// address may carry
    """

    def __init__(self, out: str) -> None:
        try:
            if out.startswith("file://"):
                out = fs.FileSystem.from_uri(out)[1]
            self.is_local = "://" not in out
            self.address = str(Path(out).expanduser().absolute()) if self.is_local else out.rstrip("/")
            self.filesystem, self.base = fs.FileSystem.from_uri(self.address)
            self.shown = self.address if self.is_local else re.sub(r"//[^/@]*@|\?.*", _hidden, self.address)
        except (OSError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
            raise UserError(f"out: {out} is no writable address: {str(error).splitlines()[0]}") from None

    def below(self, name: str) -> "RunDir":
        """A folder of the run as a directory of its own."""
        if self.is_local:
            return RunDir(f"{self.address}/{name}")
        place, options, rest = self.address.partition("?")
        return RunDir(f"{place.rstrip('/')}/{name}{options}{rest}")

    def create(self) -> None:
        """Makes the directory, and proves that it can be written."""
        try:
            self.filesystem.create_dir(self.base, recursive=True)
            self.write(".probe", b"")
            self.filesystem.delete_file(self.path(".probe"))
        except OSError as error:
            raise UserError(f"out: {self.shown} cannot be written: {str(error).splitlines()[0]}") from None

    def path(self, *parts: str) -> str:
        """The full path of something in the run; a part that climbs out of it is a programming error."""
        if any(not part or part.startswith("/") or ".." in part.split("/") for part in parts):
            raise ValueError(f"{parts} leaves the run directory")
        return "/".join([self.base, *parts])

    def write(self, name: str, content: bytes) -> None:
        """Writes a whole file, or nothing. Raises UserError where it cannot be."""
        with self._whole(name) as sink:
            sink.write(content)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes a whole Parquet file, or nothing. Raises UserError where it cannot be."""
        with self._whole(name) as sink:
            pq.write_table(table, sink, compression="zstd")

    @contextmanager
    def _whole(self, name: str) -> Iterator[pa.NativeFile]:
        """Raises UserError where it cannot be written: the disk is full, or somebody took the permission away."""
        try:
            with self._replacing(self.path(name)) as sink:
                yield sink
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
            raise UserError(f"out: {self.shown}/{name} cannot be written: {why}") from error

    @contextmanager
    def _replacing(self, target: str) -> Iterator[pa.NativeFile]:
        if not self.is_local:
            whole = pa.BufferOutputStream()  # a stream that is closed after an error would show half a file
            yield whole
            with self.filesystem.open_output_stream(target) as sink:
                sink.write(whole.getvalue())
            return
        folder, _, leaf = target.rpartition("/")
        os.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{leaf}.{uuid.uuid4().hex}.part"
        try:
            with self.filesystem.open_output_stream(temporary) as sink:
                yield sink
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def read(self, name: str) -> bytes:
        """A whole file."""
        with self.filesystem.open_input_stream(self.path(name)) as source:
            return bytes(source.read())

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File)

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == fs.FileType.Directory)

    def files(self, folder: str) -> list[str]:
        """The Parquet files in a folder of the run, as names for `read_table`, sorted."""
        found = self.filesystem.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        names = [info.base_name for info in found if info.type == fs.FileType.File]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(".parquet") and not name.startswith("."))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """A Parquet file of the run. Raises UserError when another version of this project wrote it."""
        table = pq.read_table(self.path(name), columns=columns, filesystem=self.filesystem, partitioning=None)
        version = (table.schema.metadata or {}).get(b"codemmlu.schema", b"none").decode()
        if version != str(SCHEMA_VERSION):
            raise UserError(f"{self.shown}/{name} has schema {version}, this is {SCHEMA_VERSION}; use another `out`")
        return table

    def size(self, name: str) -> int:
        """A file's bytes."""
        return int(self.filesystem.get_file_info(self.path(name)).size)

    def remove(self, name: str) -> None:
        """Removes a file of the run, if it is there."""
        if self.exists(name):
            self.filesystem.delete_file(self.path(name))

    def read_batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """As `read_table`, some rows at a time."""
        with self.filesystem.open_input_file(self.path(name)) as file:
            yield from pq.ParquetFile(file).iter_batches(batch_size=4096)

    def clear(self, name: str) -> None:
        """Removes a file of the run, or a folder and what is in it, if it is there."""
        kind = self.filesystem.get_file_info(self.path(name)).type
        if kind == fs.FileType.File:
            self.filesystem.delete_file(self.path(name))
        elif kind != fs.FileType.NotFound:
            self.filesystem.delete_dir(self.path(name))

    def replace(self, folder: str, new: str) -> None:
        """The files of the folder `new` stand in `folder` from now on, alone. Raises UserError where they cannot."""
        self.clear(folder)
        try:
            self.filesystem.create_dir(self.path(folder))
            for name in self.files(new):
                self.filesystem.move(self.path(name), self.path(f"{folder}/{name.rpartition('/')[2]}"))
        except OSError as error:
            raise UserError(f"out: {self.shown}/{folder} cannot be written: {str(error).splitlines()[0]}") from error
        self.clear(new)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a job writes here; the kernel lets go of it however the job ends. For local directories.

        Raises UserError when another live job holds it.
        """
        handle = os.open(self.path(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(f"out: {self.shown} cannot be locked: {error.strerror}") from None
            raise UserError(
                f"out: another run is writing to {self.shown}; wait for it, stop it, or give another `out`"
            ) from None
        try:
            yield
        finally:
            os.close(handle)
