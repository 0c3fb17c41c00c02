"""Where questions lie: the embedded sample set, local paths, directories and globs, s3:// and gs:// URIs, the Hub."""

import fnmatch
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import fs

from codemmlu.errors import UserError
from codemmlu.questions.readers import READERS

SAMPLE = Path(__file__).with_name("sample.jsonl")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMPRESSED = (".gz", ".bz2", ".zst")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: its name as messages show it, its ending without compression, and where it lies."""

    name: str
    ending: str
    path: str
    filesystem: fs.FileSystem

    def open(self) -> BinaryIO:
        """The file's bytes, decompressed by its ending. Parquet needs to seek, so it is opened for that."""
        try:
            if self.ending == ".parquet":
                return cast(BinaryIO, self.filesystem.open_input_file(self.path))
            return io.BufferedReader(cast(io.RawIOBase, self.filesystem.open_input_stream(self.path)))
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"questions.source: {self.name} cannot be opened: {_short(error)}") from None


def is_hub(source: str) -> bool:
    """Whether a source names a Hub dataset: OWNER/NAME with no such file here and no ending that we read."""
    looks_like = HUB_ID.fullmatch(source) is not None and _ending(source) not in READERS
    return looks_like and not Path(source).exists()


def files(source: str) -> Iterator[SourceFile]:
    """The files of a source, in the order of their names. Raises UserError when there is none of a known kind."""
    if source == "sample":
        yield SourceFile("sample", ".jsonl", str(SAMPLE), fs.LocalFileSystem())
        return
    filesystem, path = _locate(source)
    prefix = f"{source.split('://')[0]}://" if "://" in source else ""
    for found in _expand(filesystem, path, source):
        ending = _ending(found)
        if ending not in READERS:
            raise UserError(
                f"questions.source: {prefix}{found} is not one of {', '.join(READERS)} (each also as .gz, .bz2, .zst)"
            )
        yield SourceFile(f"{prefix}{found}", ending, found, filesystem)


def _locate(source: str) -> tuple[fs.FileSystem, str]:
    if "://" not in source:
        return fs.LocalFileSystem(), str(Path(source).expanduser())
    # A glob's * and ? are not part of a URI's path: the filesystem is made from what stands before them.
    stem = re.split(r"[*?\[]", source.split("?")[0])[0] if source.startswith(("s3://", "gs://")) else source
    query = re.search(r"\?[\w.]+=.*$", source)
    try:
        filesystem, base = fs.FileSystem.from_uri(stem + (query[0] if query else ""))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise UserError(f"questions.source: {source} is no readable address: {_short(error)}") from None
    rest = source[len(stem) :].removesuffix(query[0] if query else "")
    return filesystem, base + ("/" if stem.endswith("/") and not base.endswith("/") else "") + rest


def _expand(filesystem: fs.FileSystem, path: str, source: str) -> list[str]:
    try:
        if re.search(r"[*?\[]", path):
            folder = str(PurePosixPath(re.split(r"[*?\[]", path)[0] + "x").parent)
            selected = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
            found = [i.path for i in selected if i.type == fs.FileType.File and fnmatch.fnmatchcase(i.path, path)]
        else:
            info = filesystem.get_file_info(path)
            if info.type == fs.FileType.File:
                return [path]
            found = []
            if info.type == fs.FileType.Directory:
                inside = filesystem.get_file_info(fs.FileSelector(path))
                found = [i.path for i in inside if i.type == fs.FileType.File and _ending(i.path) in READERS]
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"questions.source: {source} cannot be read: {_short(error)}") from None
    if not found:
        raise UserError(
            f"questions.source: no file at {source}; give `sample`, a .csv, .jsonl or .parquet path, a glob, "
            "an s3:// or gs:// address, or a Hub dataset (OWNER/NAME)"
        )
    return sorted(found)


def _ending(path: str) -> str:
    stem = path
    for suffix in _COMPRESSED:
        stem = stem.removesuffix(suffix)
    return PurePosixPath(stem).suffix.lower()


def _short(error: Exception) -> str:
    return str(error).splitlines()[0][:200]
