"""The run directory: all files of a run, on a local path or any address that pyarrow can write (s3://, gs://).

    recipe.yaml         the resolved recipe
    questions/          the cleaned questions, longest first within a file
    rejected.parquet    rows that could not be asked, with reason, file and line
    pending/<pool>/     questions that the current attempt still has to ask, one file per block
    answers/<pool>/     one row per question and inference spec, one file per block
    index/              the index of solved examples, where a voter looks at examples
    voters.parquet verdicts.parquet submission.csv report.json

A file appears whole or not at all: a local file is renamed into place, and an object store gets a file in one piece.
Only files that `names` lists are ever replaced or deleted.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from codemmlu.errors import UserError, first_line, is_disk_full, redact_credentials
from codemmlu.run_dir.faults import DamagedError, disk_is_full
from codemmlu.run_dir.local import file_lock, sync_folder
from codemmlu.run_dir.names import is_written
from codemmlu.schema import SCHEMA_VERSION

ATTEMPT = ".issue"  # The file that names the attempt that writes here now; its name on disk is an older word.


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
        if "\0" in out or ("://" in out and not out.partition("://")[2].strip("/")):
            raise UserError(f"{out!r} is no writable address: it names no place", key=key)
        try:
            if out.startswith("file://"):
                out = fs.FileSystem.from_uri(out)[1]
            self.is_local = "://" not in out
            self.address = str(Path(out).expanduser().absolute()) if self.is_local else out.rstrip("/")
            self.filesystem, self.base = fs.FileSystem.from_uri(self.address)
            self.shown = self.address if self.is_local else redact_credentials(self.address).partition("?")[0]
        except (OSError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
            raise UserError(f"{out} is no writable address: {first_line(error)}", key=key) from None

    def below(self, name: str) -> "RunDir":
        """Return a folder of the run as a run directory of its own."""
        if self.is_local:
            return RunDir(f"{self.address}/{name}", self.key)
        path, question_mark, options = self.address.partition("?")
        return RunDir(f"{path.rstrip('/')}/{name}{question_mark}{options}", self.key)

    def create(self) -> None:
        """Make the directory, and refuse an address that cannot be written."""
        probe = f".probe.{uuid.uuid4().hex}"  # Two jobs may create the same directory at once.
        try:
            self.filesystem.create_dir(self.base, recursive=True)
            self.write(probe, b"")
            self.filesystem.delete_file(self.path(probe))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{self.shown} cannot be written: {first_line(error)}", key=self.key) from None

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
            pq.write_table(table, sink, compression="zstd", write_page_checksum=True)

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
            sync_folder(folder)
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

    def files(self, folder: str, ending: str = ".parquet") -> list[str]:
        """Return the sorted names of the files in a folder that have an ending."""
        try:
            entries = self.filesystem.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True))
        except OSError as error:  # A file or a loop of links stands where the folder should be.
            raise UserError(
                f"{self.shown}/{folder} cannot be read as a folder: {first_line(error)}", key=self.key
            ) from None
        names = [info.base_name for info in entries if info.type == fs.FileType.File]
        return sorted(f"{folder}/{name}" for name in names if name.endswith(ending) and not name.startswith("."))

    def read_table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """Return a Parquet file of the run; one of another version is a UserError, a broken one a DamagedError.

        Args:
            name: The name of the file.
            columns: The columns to read; None: all.

        Returns:
            The table.

        Raises:
            DamagedError: The file is not as it was written.
        """
        with self._parquet(name) as file:
            table = file.read(columns=columns)
            # A file without page checksums may hold text that is none, or offsets that lead outside.
            table.validate(full=True)
        if missing := set(columns or ()) - set(table.column_names):
            raise DamagedError(f"{self.shown}/{name}", f"it has no column {min(missing)}")
        return table

    def read_batches(self, name: str) -> Iterator[pa.RecordBatch]:
        """Read a Parquet file as `read_table` does, some rows at a time."""
        with self._parquet(name) as file:
            for batch in file.iter_batches(batch_size=4096):
                batch.validate(full=True)
                yield batch

    @contextmanager
    def _parquet(self, name: str) -> Iterator[pq.ParquetFile]:
        """Open a Parquet file; what its reader cannot read is a DamagedError, another version is a UserError."""
        try:
            with self.filesystem.open_input_file(self.path(name)) as stream:
                file = pq.ParquetFile(stream, page_checksum_verification=True, pre_buffer=not self.is_local)
                self._check_version(name, file.schema_arrow)
                yield file
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError) as error:
            raise DamagedError(f"{self.shown}/{name}", first_line(error)) from None

    def set_aside(self, name: str) -> str:
        """Rename a damaged file to a name that no run reads or writes, and return the new name."""
        number, new = 1, f"{name}.damaged"
        while self.exists(new):
            number += 1
            new = f"{name}.damaged.{number}"
        self.filesystem.move(self.path(name), self.path(new))
        return new

    def size(self, name: str) -> int:
        """Return the size of a file in bytes; 0 where there is none."""
        return int(self.filesystem.get_file_info(self.path(name)).size or 0)

    def remove(self, name: str) -> None:
        """Remove a file of the run, if it exists."""
        if self.exists(name):
            self.filesystem.delete_file(self.path(name))

    def _check_version(self, name: str, schema: pa.Schema) -> None:
        version = (schema.metadata or {}).get(b"codemmlu.schema", b"none").decode("utf-8", "replace")
        if version != str(SCHEMA_VERSION):
            raise UserError(f"{self.shown}/{name} has schema {version}, this is {SCHEMA_VERSION}; use another `out`")

    def clear(self, name: str) -> None:
        """Remove a file of the run, or from a folder all files that a run writes, if it exists.

        A file that a run does not write stays, and so does its folder.
        """
        kind = self.filesystem.get_file_info(self.path(name)).type
        if kind == fs.FileType.File:
            if is_written(name):
                self.filesystem.delete_file(self.path(name))
        elif kind != fs.FileType.NotFound:
            self._clear_folder(name)

    def _clear_folder(self, folder: str) -> None:
        entries = self.filesystem.get_file_info(fs.FileSelector(self.path(folder)))
        for info in entries:
            name = f"{folder}/{info.base_name}"
            if info.type == fs.FileType.Directory and not (self.is_local and os.path.islink(info.path)):
                self._clear_folder(name)
            elif info.type != fs.FileType.Directory and is_written(name):
                self.filesystem.delete_file(self.path(name))
        if not self.is_local:
            if not self.filesystem.get_file_info(fs.FileSelector(self.path(folder), allow_not_found=True)):
                self.filesystem.delete_dir(self.path(folder))
            return
        with suppress(OSError):  # Files of the user are in it, or it is a link.
            os.rmdir(self.path(folder))

    def replace(self, folder: str, new: str) -> None:
        """Replace the files of `folder` by the files of the folder `new`.

        Each file is replaced by itself, so that at no moment a name that both folders have is missing.

        Args:
            folder: The folder.
            new: The folder of the new files, which goes.

        Raises:
            UserError: A file cannot be moved.
        """
        try:
            self.filesystem.create_dir(self.path(folder))
            names = [name.rpartition("/")[2] for name in self.files(new)]
            for name in names:
                self.filesystem.move(self.path(f"{new}/{name}"), self.path(f"{folder}/{name}"))
            for name in self.files(folder):
                if name.rpartition("/")[2] not in names:
                    self.clear(name)
            if self.is_local:
                sync_folder(self.path(folder))
        except OSError as error:
            raise UserError(f"{self.shown}/{folder} cannot be written: {first_line(error)}", key=self.key) from error
        self.clear(new)

    def lock(self) -> AbstractContextManager[None]:
        """Hold the lock of a local directory while a job writes; see `file_lock`."""
        return file_lock(self.path(".lock"), self.shown, self.key)
