"""The run directory: all files of a run, on a local path or any address that pyarrow can write (s3://, gs://).

    recipe.yaml         the resolved recipe
    questions/          the cleaned questions, longest first within a file
    rejected.parquet    rows that could not be asked, with reason, file and line
    pending/<pool>/     questions that the current attempt still has to ask, one file per block
    answers/<pool>/     one row per question and inference spec, one file per block
    index/              the index of solved examples, where a voter looks at examples
    voters.parquet verdicts.parquet submission.csv report.json

A file appears whole or not at all: a local file is renamed into place, and an object store gets a file in one piece.
"""

import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from codemmlu.errors import UserError, is_disk_full
from codemmlu.schema import SCHEMA_VERSION

ATTEMPT = ".issue"  # The file that names the attempt that writes here now; its name on disk is an older word.


def _hidden(match: re.Match[str]) -> str:
    """Return the replacement of credentials or options in an address: only the slashes of the scheme stay."""
    return "//" if match[0].startswith("//") else ""


def check_persistent_path(address: str, key: str = "out") -> None:
    """Refuse a relative path in a submitted job: it lies in Ray's copy of the working directory.

    Args:
        address: Path or address.
        key: The recipe key to name in the error.

    Raises:
        UserError: The path is relative and Ray would delete the directory with the job.
    """
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted and "://" not in address and not os.path.isabs(os.path.expanduser(address)):
        raise UserError(
            f"{address} is relative, and a submitted job's working directory is deleted by Ray; "
            "give an absolute path or an s3:// or gs:// address",
            key=key,
        )


def disk_is_full(shown: str, path: str, needed: int = 0) -> str:
    """Return the error message for a full disk.

    Args:
        shown: What could not be written, as the user reads it.
        path: A path on the disk.
        needed: The bytes that are needed; 0: not known.
    """
    while not os.path.exists(path) and path not in ("", "/"):
        path = os.path.dirname(path)
    free = shutil.disk_usage(path or ".").free
    more = f", and {_size(max(1, needed - free))} more are needed" if needed > free else ""
    return (
        f"out: {shown} cannot be written: the disk is full ({_size(free)} free{more}); make room, or give another `out`"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


class RunDir:
    """The directory of a run; a worker gets its `address`, a plain string, and opens the directory itself.

    Attributes:
        is_local: Whether the directory is a local path.
        address: The absolute path, or the address.
        filesystem: The file system of the address.
        base: The path of the directory in `filesystem`.
        shown: The address for users, without the keys and options that an s3:// address may carry.
        key: The recipe key that names the directory, for errors.
    """

    def __init__(self, out: str, key: str = "out") -> None:
        """Open a local path or an address; the directory need not exist.

        Args:
            out: The path or address.
            key: The recipe key that names the directory, for errors.

        Raises:
            UserError: pyarrow cannot use the address.
        """
        self.key = key
        try:
            if out.startswith("file://"):
                out = fs.FileSystem.from_uri(out)[1]
            self.is_local = "://" not in out
            self.address = str(Path(out).expanduser().absolute()) if self.is_local else out.rstrip("/")
            self.filesystem, self.base = fs.FileSystem.from_uri(self.address)
            self.shown = self.address if self.is_local else re.sub(r"//[^/@]*@|\?.*", _hidden, self.address)
        except (OSError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
            raise UserError(f"{out} is no writable address: {str(error).splitlines()[0]}", key=self.key) from None

    def below(self, name: str) -> "RunDir":
        """Return a folder of the run as a run directory of its own."""
        if self.is_local:
            return RunDir(f"{self.address}/{name}", self.key)
        path, question_mark, options = self.address.partition("?")
        return RunDir(f"{path.rstrip('/')}/{name}{question_mark}{options}", self.key)

    def create(self) -> None:
        """Make the directory, and refuse an address that cannot be written."""
        try:
            self.filesystem.create_dir(self.base, recursive=True)
            self.write(".probe", b"")
            self.filesystem.delete_file(self.path(".probe"))
        except OSError as error:
            raise UserError(f"{self.shown} cannot be written: {str(error).splitlines()[0]}", key=self.key) from None

    def path(self, *parts: str) -> str:
        """Return the full path of a file or folder of the run; a part that leaves the run is a ValueError."""
        if any(not part or part.startswith("/") or ".." in part.split("/") for part in parts):
            raise ValueError(f"{parts} leaves the run directory")
        return "/".join([self.base, *parts])

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file, or nothing; a file that cannot be written is a UserError."""
        with self._whole(name) as sink:
            sink.write(content)

    def write_table(self, name: str, table: pa.Table) -> None:
        """Write a whole Parquet file, or nothing; a file that cannot be written is a UserError."""
        with self._whole(name) as sink:
            pq.write_table(table, sink, compression="zstd")

    @contextmanager
    def _whole(self, name: str) -> Iterator[pa.NativeFile]:
        """Open a file to write as a whole; an error such as a full disk or a permission is a UserError."""
        try:
            with self._replacing(self.path(name)) as sink:
                yield sink
        except OSError as error:
            if is_disk_full(error):
                raise UserError(disk_is_full(f"{self.shown}/{name}", self.path(name))) from error
            why = os.strerror(error.errno) if error.errno else str(error).splitlines()[0]
            raise UserError(f"{self.shown}/{name} cannot be written: {why}", key=self.key) from error

    @contextmanager
    def _replacing(self, target: str) -> Iterator[pa.NativeFile]:
        """Open a file that replaces `target` on success, and leaves `target` as it is on an error."""
        if not self.is_local:
            whole = pa.BufferOutputStream()  # Closing the object's stream after an error would show half a file.
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
        """Return the content of a file."""
        with self.filesystem.open_input_stream(self.path(name)) as source:
            return bytes(source.read())

    def exists(self, name: str) -> bool:
        """Return whether the run has a file of this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == fs.FileType.File)

    def has_folder(self, name: str) -> bool:
        """Return whether the run has a folder of this name."""
        return bool(self.filesystem.get_file_info(self.path(name)).type == fs.FileType.Directory)

    def files(self, folder: str) -> list[str]:
        """Return the sorted names, for `read_table`, of the Parquet files in a folder of the run."""
        entries = self.filesystem.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        names = [info.base_name for info in entries if info.type == fs.FileType.File]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(".parquet") and not name.startswith("."))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return a Parquet file of the run, and refuse a file that another version of this project wrote."""
        table = pq.read_table(self.path(name), columns=columns, filesystem=self.filesystem, partitioning=None)
        self._check_version(name, table.schema)
        return table

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return int(self.filesystem.get_file_info(self.path(name)).size)

    def remove(self, name: str) -> None:
        """Remove a file of the run, if it exists."""
        if self.exists(name):
            self.filesystem.delete_file(self.path(name))

    def read_batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """Read a Parquet file as `read_table` does, some rows at a time."""
        with self.filesystem.open_input_file(self.path(name)) as stream:
            file = pq.ParquetFile(stream)
            self._check_version(name, file.schema_arrow)
            yield from file.iter_batches(batch_size=4096)

    def _check_version(self, name: str, schema: pa.Schema) -> None:
        version = (schema.metadata or {}).get(b"codemmlu.schema", b"none").decode()
        if version != str(SCHEMA_VERSION):
            raise UserError(f"{self.shown}/{name} has schema {version}, this is {SCHEMA_VERSION}; use another `out`")

    def clear(self, name: str) -> None:
        """Remove a file of the run, or a folder with all its files, if it exists."""
        kind = self.filesystem.get_file_info(self.path(name)).type
        if kind == fs.FileType.File:
            self.filesystem.delete_file(self.path(name))
        elif kind != fs.FileType.NotFound:
            self.filesystem.delete_dir(self.path(name))

    def replace(self, folder: str, new: str) -> None:
        """Replace the files of `folder` by the files of the folder `new`; a failure is a UserError."""
        self.clear(folder)
        try:
            self.filesystem.create_dir(self.path(folder))
            for name in self.files(new):
                self.filesystem.move(self.path(name), self.path(f"{folder}/{name.rpartition('/')[2]}"))
        except OSError as error:
            raise UserError(
                f"{self.shown}/{folder} cannot be written: {str(error).splitlines()[0]}", key=self.key
            ) from error
        self.clear(new)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of a local directory while a job writes; the kernel releases it however the job ends.

        Yields:
            Nothing.

        Raises:
            UserError: Another live job holds the lock, or the directory cannot be locked.
        """
        handle = os.open(self.path(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(handle)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(f"{self.shown} cannot be locked: {error.strerror}", key=self.key) from None
            raise UserError(
                f"another run is writing to {self.shown}; wait for it, stop it, or give another `{self.key}`",
                key=self.key,
            ) from None
        try:
            yield
        finally:
            os.close(handle)
