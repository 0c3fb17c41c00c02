"""The files of a source: the embedded sample set, paths, directories, globs, s3:// and gs:// URIs."""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import fs

from codemmlu.dataset.readers import READERS, SEEKING
from codemmlu.dataset.readers.unpacked import CODECS, unpacked
from codemmlu.errors import UserError, first_line

SAMPLE = Path(__file__).with_name("sample.jsonl")
# The keys of sources that may be other than files; a submission is a file.
_OF_QUESTIONS = ("questions.source", "examples.source")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_WILDCARD = re.compile(r"[*?\[]")
_GLOB_PART = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|.", re.DOTALL)
_MOST_STARS = 6  # in one pattern: each multiplies the ways to match by the length of a path
_GLOB_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: The file's name in messages.
        ending: The file's ending in lower case, without the ending of a compression.
        path: The file's path in the filesystem.
        filesystem: The filesystem that holds the file.
        key: The recipe key that names the source.
    """

    name: str
    ending: str
    path: str
    filesystem: fs.FileSystem
    key: str

    def open(self) -> BinaryIO:
        """Return a stream of the file's bytes, decompressed by the file's ending.

        A Parquet file or a workbook is compressed inside, and is opened for seeking, which reading it needs.

        Raises:
            UserError: The file cannot be opened.
        """
        try:
            if self.ending in SEEKING:
                return cast(BinaryIO, self.filesystem.open_input_file(self.path))
            stream = self.filesystem.open_input_stream(self.path, compression=None)
            codec = CODECS.get(PurePosixPath(self.path).suffix)
            return unpacked(stream, codec, self.name) if codec else io.BufferedReader(cast(io.RawIOBase, stream))
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{self.name} cannot be opened: {first_line(error)}", key=self.key) from None


def is_hub(source: str) -> bool:
    """Return whether a source is a Hub dataset: OWNER/NAME, with no such path and no known ending."""
    looks_like = HUB_ID.fullmatch(source) is not None and _ending(source) not in READERS
    return looks_like and not os.path.exists(source)


def files(source: str, key: str) -> Iterator[SourceFile]:
    """Find the files of a source.

    Args:
        source: The sample set, or a path, directory, glob or URI.
        key: The recipe key that names the source, for errors.

    Yields:
        The files, in the order of their names.

    Raises:
        UserError: There is no file, or a file is of no known kind.
    """
    if source == "sample":
        yield SourceFile("sample", ".jsonl", str(SAMPLE), fs.LocalFileSystem(), key)
        return
    filesystem, path = _locate(source, key)
    prefix = f"{source.split('://')[0]}://" if "://" in source else ""
    for file in _expand(filesystem, path, source, key):
        ending = _ending(file)
        if ending not in READERS:
            raise UserError(
                f"{prefix}{file} is not one of {', '.join(READERS)} (text also as .gz, .bz2, .zst)", key=key
            )
        yield SourceFile(f"{prefix}{file}", ending, file, filesystem, key)


def _locate(source: str, key: str) -> tuple[fs.FileSystem, str]:
    if "://" not in source:
        return fs.LocalFileSystem(), str(Path(os.path.expanduser(source)))
    # A glob's * and ? are not part of a URI's path, so the filesystem is made from the text before them.
    stem = re.split(r"[*?\[]", source.split("?")[0])[0] if source.startswith(("s3://", "gs://")) else source
    query = re.search(r"\?[\w.]+=.*$", source)
    try:
        filesystem, base = fs.FileSystem.from_uri(stem + (query[0] if query else ""))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise UserError(f"{source} is no readable address: {first_line(error)}", key=key) from None
    rest = source[len(stem) :].removesuffix(query[0] if query else "")
    return filesystem, base + ("/" if stem.endswith("/") and not base.endswith("/") else "") + rest


def _expand(filesystem: fs.FileSystem, path: str, source: str, key: str) -> list[str]:
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.File:
            return [path]
        if info.type == fs.FileType.Directory:
            matches = [file for file in _inside(filesystem, path, recursive=False) if _ending(file) in READERS]
        elif wildcard := _WILDCARD.search(path):
            folder = path[: wildcard.start()].rpartition("/")[0] or ("/" if path.startswith("/") else ".")
            below = "/" in path[wildcard.start() :] or "**" in path
            is_match = _glob(path).fullmatch
            matches = [file for file in _inside(filesystem, folder, below) if is_match(file)]
        else:
            matches = []
    except (OSError, pa.ArrowInvalid, re.error) as error:
        raise UserError(f"{source} cannot be read: {first_line(error)}", key=key) from None
    if not matches:
        more = ", `sample` or a Hub dataset (OWNER/NAME)" if key in _OF_QUESTIONS else ""
        raise UserError(
            f"no file at {source}; give a path (.csv, .tsv, .xlsx, .jsonl, .json or .parquet), a glob, "
            f"an s3:// or gs:// address{more}",
            key=key,
        )
    return sorted(matches)


def _inside(filesystem: fs.FileSystem, folder: str, recursive: bool) -> list[str]:
    """Return the files in a folder; hidden ones, such as macOS puts into archives, are no files of the user."""
    if recursive and isinstance(filesystem, fs.LocalFileSystem):
        paths = list(_walk(folder))
    else:
        below = filesystem.get_file_info(fs.FileSelector(folder, recursive=recursive, allow_not_found=True))
        paths = [info.path.removeprefix("./") for info in below if info.type == fs.FileType.File]
    return [path for path in paths if not _is_hidden(path.removeprefix(folder.removeprefix("./")))]


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _walk(folder: str) -> Iterator[str]:
    """Return the files below a local folder; a folder that links lead to again is read once."""
    seen = set()
    for path, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(path)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        for name in names:
            if os.path.isfile(os.path.join(path, name)):
                yield os.path.join(path, name).removeprefix("./")


def _glob(pattern: str) -> re.Pattern[str]:
    """Compile a glob as in a shell: * and ? stay within a folder, **/ crosses any number of folders."""

    def meaning(part: str) -> str:
        if len(part) > 1 and part.startswith("["):
            return part.replace("\\", r"\\").replace("[!", "[^", 1)
        return _GLOB_MEANING.get(part, re.escape(part))

    parts = _GLOB_PART.findall(re.sub(r"(\*\*/)+", "**/", re.sub(r"\*{3,}", "**", pattern)))
    if sum(part.startswith("*") for part in parts) > _MOST_STARS:
        raise re.error(f"more than {_MOST_STARS} stars in a pattern, which may match in too many ways")
    return re.compile("".join(meaning(part) for part in parts), re.DOTALL)


def _ending(path: str) -> str:
    """Return the ending of a path without the ending of a compression; none for a compressed file that is sought in."""
    stem = path
    for suffix in CODECS:
        stem = stem.removesuffix(suffix)
    suffix = PurePosixPath(stem).suffix.lower()
    return "" if suffix in SEEKING and stem != path else suffix
