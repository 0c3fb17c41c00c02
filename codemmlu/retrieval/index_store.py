"""The index directory: a folder per shard, and a manifest, which is written last.

manifest.json                       what the index was made of, and the hash of every file
00000/index.faiss                   vectors of the shard's examples, by row
00000/examples.parquet              the examples, in the same order, with the vectors of their choices
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from codemmlu.errors import UserError, first_line
from codemmlu.recipe import ExampleSettings, digest
from codemmlu.retrieval.embedder import Embedder
from codemmlu.run_dir import RunDir
from codemmlu.schema import QUESTION

VERSION = 1
MANIFEST = "manifest.json"
INDEX, EXAMPLES = "index.faiss", "examples.parquet"

# The number of examples from which `auto` takes the next kind. 50,000 comparisons take a core about 5 ms per question.
AUTO = ((50_000, "exact"), (1_000_000, "hnsw"))
_SMALLEST_IVFPQ = 10_000  # 256 codes are learned from at least 39 vectors each (FAISS's own limit)

# The column `twin` is the content key of the example. `vector` and `choice_vectors` are the bytes of float16 arrays of
# shapes (dimensions,) and (n_choices, dimensions).
EXAMPLE = (
    QUESTION.append(pa.field("twin", pa.string()))
    .append(pa.field("vector", pa.large_binary()))
    .append(pa.field("choice_vectors", pa.large_binary()))
)


class BrokenManifestError(UserError):
    """The error of a manifest that was changed or cut off since it was written."""


def _inside(name: str) -> str:
    """Refuse a name that leads out of the index directory."""
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise ValueError(f"{name!r} leads out of the index")
    return name


_InsideName = Annotated[str, AfterValidator(_inside)]


class _Model(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Shard(_Model):
    """One shard: its number of examples, and its files by name in the index directory, with their sha256."""

    count: int
    index: _InsideName
    index_sha256: str
    examples: _InsideName
    examples_sha256: str


class TransferWeights(_Model):
    """The weights of the method `retrieve`, fitted on the examples alone: see `answer_transfer`."""

    features: tuple[str, ...]
    scales: tuple[float, ...]  # of each feature, which is divided by its scale
    weights: tuple[float, ...]
    fitted_on: int  # number of examples
    seed: int
    left_out: str  # digest of the asked questions among the examples, on which nothing is fitted


class IndexManifest(_Model):
    """The description of an index. `fingerprint` changes with anything that determines the search results."""

    version: int
    fingerprint: str
    embedder: str
    revision: str | None
    embedder_fingerprint: str
    text: str
    metric: str
    kind: str
    count: int
    dimensions: int
    shards: tuple[Shard, ...]
    weights: TransferWeights | None  # None: every example is also a question of the run
    recall_at_10: float | None  # of an approximate kind against exact; None: the kind is exact
    examples_per_second: float


@dataclass(frozen=True)
class IndexSpec:
    """The inputs of an index, except for the examples themselves.

    Attributes:
        settings: The recipe's section `examples`.
        embedder: The embedder of examples and questions.
        kind: `exact`, `hnsw` or `ivfpq`.
        fingerprint: See `fingerprint` in this module.
        seed: Seed of the sample that the weights are fitted on.
        asked: Content keys of the run's questions; no weight is fitted on an example with one of these keys.
        left_out: Digest of `asked`, see TransferWeights.
    """

    settings: ExampleSettings
    embedder: Embedder
    kind: str
    fingerprint: str
    seed: int
    asked: frozenset[str]
    left_out: str


def fingerprint(settings: ExampleSettings, embedder: Embedder, kind: str, content: str, seed: int) -> str:
    """Return the fingerprint of an index over examples whose digest is `content`."""
    return digest("index", VERSION, embedder.fingerprint, settings.text, kind, settings.shard, content, seed)


def kind_for(wanted: str, count: int) -> str:
    """Return the kind of an index.

    Args:
        wanted: The recipe's `examples.kind`.
        count: Number of vectors in the index.

    Returns:
        `exact`, `hnsw` or `ivfpq`.

    Raises:
        UserError: There are too few vectors to learn the codes of ivfpq from.
    """
    if wanted == "auto":
        return next((kind for most, kind in AUTO if count < most), "ivfpq")
    if wanted == "ivfpq" and count < _SMALLEST_IVFPQ:
        raise UserError(
            f"ivfpq needs at least {_SMALLEST_IVFPQ:,} examples, here are {count:,}: exact", key="examples.kind"
        )
    return wanted


def read_manifest(index: RunDir) -> IndexManifest | None:
    """Read the manifest of an index.

    Returns:
        The manifest; None where no index was finished.

    Raises:
        UserError: The manifest is of another version.
        BrokenManifestError: The manifest is not as it was written.
    """
    try:
        text = index.read(MANIFEST)
    except FileNotFoundError:
        return None
    try:
        value: Any = json.loads(text)
        if isinstance(value, dict) and value.get("version") != VERSION:
            raise UserError(
                f"{index.shown} has version {value.get('version')}, this is {VERSION}; delete it and run again",
                key="examples.index",
            )
        manifest = IndexManifest.model_validate(value)
    except (ValueError, RecursionError) as error:
        details = error.errors()[0] if isinstance(error, ValidationError) else None
        first = f"{'.'.join(map(str, details['loc']))}: {details['msg']}" if details else first_line(error)
        raise BrokenManifestError(
            f"{index.shown}/{MANIFEST} is broken ({first}); delete it and run again", key="examples.index"
        ) from None
    if not manifest.shards:
        raise BrokenManifestError(
            f"{index.shown}/{MANIFEST} is broken (it names no shard); delete it and run again", key="examples.index"
        )
    return manifest


def check_embedder(manifest: IndexManifest, settings: ExampleSettings, embedder: Embedder, index: RunDir) -> None:
    """Refuse to embed questions in another way than the examples of an index.

    Raises:
        UserError: The embedder or the text differs; the message names both.
    """
    ours = (embedder.source, embedder.revision, embedder.fingerprint)
    theirs = (manifest.embedder, manifest.revision, manifest.embedder_fingerprint)
    if ours[2] != theirs[2]:
        raise UserError(
            f"{index.shown} was made with {_named(*theirs)}, the recipe has {_named(*ours)}; "
            "use the same, or give examples.source to make the index anew",
            key="examples.embedder",
        )
    if manifest.text != settings.text:
        raise UserError(
            f"{index.shown} was made of {manifest.text!r}, the recipe has {settings.text!r}", key="examples.text"
        )


def read_checked(index: RunDir, name: str, sha256: str) -> bytes:
    """Read a file of an index, and check its hash.

    Returns:
        The content.

    Raises:
        UserError: The file cannot be read, or is not the one that was written; the message names both hashes.
    """
    try:
        content = index.read(name)
    except OSError as error:
        raise UserError(f"{index.shown}/{name} {_unreadable(error)}; {remedy(index)}", key="examples.index") from None
    if why := _other_hash(sha256_of(content), sha256):
        raise UserError(f"{index.shown}/{name} {why}; {remedy(index)}", key="examples.index")
    return content


def read_examples(index: RunDir, shard: Shard) -> pa.Table:
    """Read the examples of a shard.

    Returns:
        The table, with at least the columns of EXAMPLE.

    Raises:
        UserError: The file is not the one that was written, or no table of examples.
    """
    content = read_checked(index, shard.examples, shard.examples_sha256)
    try:
        table = pq.read_table(pa.BufferReader(content))
        missing = set(EXAMPLE.names) - set(table.column_names)
        why = f"it has no column {min(missing)}" if missing else ""
    except (OSError, ValueError, pa.ArrowException) as error:
        why = first_line(error)
    if why:
        what = f"{index.shown}/{shard.examples} is no table of examples ({why}); {remedy(index)}"
        raise UserError(what, key="examples.index")
    return table


def faults_of_files(index: RunDir, manifest: IndexManifest) -> dict[str, str]:
    """Return what is wrong with each file of an index, as the end of a sentence; files that are whole are left out.

    The files at an address are only looked for: its store keeps them as they are, and reading them takes long.
    """
    faults = {}
    for shard in manifest.shards:
        for name, sha256 in ((shard.index, shard.index_sha256), (shard.examples, shard.examples_sha256)):
            if why := _fault_of_file(index, name, sha256):
                faults[name] = why
    return faults


def _fault_of_file(index: RunDir, name: str, sha256: str) -> str:
    if not index.exists(name):
        return "is missing"
    if not index.is_local:
        return ""
    digest_of_file = hashlib.sha256()
    try:
        with index.filesystem.open_input_stream(index.path(name)) as stream:
            while part := stream.read(2**22):
                digest_of_file.update(part)
    except OSError as error:
        return _unreadable(error)
    return _other_hash(digest_of_file.hexdigest(), sha256)


def _unreadable(error: OSError) -> str:
    return "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {first_line(error)}"


def _other_hash(actual: str, wanted: str) -> str:
    """Return that a file has another hash than its manifest says; empty where it has the same."""
    says = f"has sha256 {actual[:16]}..., its manifest says {wanted[:16]}...: it was changed or cut off"
    return "" if actual == wanted else says


def remedy(index: RunDir) -> str:
    """Return what helps where a file of an index is broken."""
    return f"copy the index again, or delete {index.shown} and make it anew with examples.source"


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _named(source: str, revision: str | None, fingerprint: str) -> str:
    return f"{source}{f'@{revision}' if revision else ''} ({fingerprint[:12]})"
