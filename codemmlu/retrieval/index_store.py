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
        return IndexManifest.model_validate(value)
    except (ValueError, RecursionError) as error:
        details = error.errors()[0] if isinstance(error, ValidationError) else None
        first = f"{'.'.join(map(str, details['loc']))}: {details['msg']}" if details else first_line(error)
        raise BrokenManifestError(
            f"{index.shown}/{MANIFEST} is broken ({first}); delete it and run again", key="examples.index"
        ) from None


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
        raise UserError(
            f"{index.shown}/{name} cannot be read: {str(error).splitlines()[0]}", key="examples.index"
        ) from None
    if (actual := sha256_of(content)) != sha256:
        raise UserError(
            f"{index.shown}/{name} has sha256 {actual[:16]}..., its manifest says {sha256[:16]}...: "
            f"it was changed or cut off; delete {index.shown} and run again",
            key="examples.index",
        )
    return content


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of bytes, as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _named(source: str, revision: str | None, fingerprint: str) -> str:
    return f"{source}{f'@{revision}' if revision else ''} ({fingerprint[:12]})"
