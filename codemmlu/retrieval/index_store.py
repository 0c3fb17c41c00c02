"""The index directory: one folder a shard with its FAISS file and its examples, and a manifest, written last.

manifest.json                       what the index is of, and the hash of every file
00000/index.faiss                   vectors of the shard's examples, by row
00000/examples.parquet              the examples, in the same order, with the vectors of their choices
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings, digest
from codemmlu.retrieval.embedder import Embedder
from codemmlu.run_dir import RunDir
from codemmlu.schema import QUESTION

VERSION = 1
MANIFEST = "manifest.json"
INDEX, EXAMPLES = "index.faiss", "examples.parquet"

# From how many examples on `auto` takes the next kind. 50,000 comparisons take a core about 5 ms a question.
AUTO = ((50_000, "exact"), (1_000_000, "hnsw"))
_SMALLEST_IVFPQ = 10_000  # 256 codes are learned from at least 39 vectors each (FAISS's own limit)

# vector, choice_vectors: float16, shapes (dimensions,) and (n_choices, dimensions), as bytes
EXAMPLE = (
    QUESTION.append(pa.field("twin", pa.string()))
    .append(pa.field("vector", pa.large_binary()))
    .append(pa.field("choice_vectors", pa.large_binary()))
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Shard(_Model):
    """One shard's files, by their names in the index directory, with their sha256."""

    count: int
    index: str
    index_sha256: str
    examples: str
    examples_sha256: str


class TransferWeights(_Model):
    """What `retrieve` learned from the examples alone: see `transfer`."""

    features: tuple[str, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    fitted_on: int
    seed: int
    left_out: str  # digest of the asked questions among the examples, on which nothing is fitted


class IndexManifest(_Model):
    """What an index is of. `fingerprint` names all that determines what it finds."""

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
    weights: TransferWeights | None  # None: every example is a question that is asked
    recall_at_10: float | None  # of an approximate kind, against exact
    examples_per_second: float


@dataclass(frozen=True)
class IndexSpec:
    """What an index is made of: everything but the examples themselves.

    asked: twin keys of the questions of this run; no weight is fitted on an example that is one of them
    left_out: their digest, see Weights
    """

    settings: ExampleSettings
    embedder: Embedder
    kind: str
    fingerprint: str
    seed: int
    asked: frozenset[str]
    left_out: str


def fingerprint(settings: ExampleSettings, embedder: Embedder, kind: str, content: str, seed: int) -> str:
    """Of an index over examples with the digest `content`."""
    return digest("index", VERSION, embedder.fingerprint, settings.text, kind, settings.shard, content, seed)


def kind_for(wanted: str, count: int) -> str:
    """The kind of an index of `count` vectors. Raises UserError when there are too few to learn codes from."""
    if wanted == "auto":
        return next((kind for most, kind in AUTO if count < most), "ivfpq")
    if wanted == "ivfpq" and count < _SMALLEST_IVFPQ:
        raise UserError(f"examples.kind: ivfpq needs at least {_SMALLEST_IVFPQ:,} examples, here are {count:,}: exact")
    return wanted


def read_manifest(index: RunDir) -> IndexManifest | None:
    """The manifest of an index, None where none was finished. Raises UserError for a broken one."""
    try:
        text = index.read(MANIFEST)
    except FileNotFoundError:
        return None
    try:
        value: dict[str, Any] = json.loads(text)
        if value.get("version") != VERSION:
            raise UserError(
                f"examples.index: {index.shown} has version {value.get('version')}, this is {VERSION}; "
                "delete it and run again"
            )
        return IndexManifest.model_validate(value)
    except (ValueError, AttributeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"examples.index: {index.shown}/{MANIFEST} is broken ({first}); delete it and run again"
        ) from None


def check_embedder(manifest: IndexManifest, settings: ExampleSettings, embedder: Embedder, index: RunDir) -> None:
    """Questions must be embedded as the examples were. Raises UserError that says both."""
    ours = (embedder.source, embedder.revision, embedder.fingerprint)
    theirs = (manifest.embedder, manifest.revision, manifest.embedder_fingerprint)
    if ours[2] != theirs[2]:
        raise UserError(
            f"examples.embedder: {index.shown} was made with {_named(*theirs)}, the recipe has {_named(*ours)}; "
            "use the same, or give examples.source to make the index anew"
        )
    if manifest.text != settings.text:
        raise UserError(f"examples.text: {index.shown} was made of {manifest.text!r}, the recipe has {settings.text!r}")


def read_checked(index: RunDir, name: str, sha256: str) -> bytes:
    """A file of an index. Raises UserError that says both hashes when it is not the one that was written."""
    try:
        content = index.read(name)
    except OSError as error:
        raise UserError(f"examples.index: {index.shown}/{name} cannot be read: {str(error).splitlines()[0]}") from None
    if (found := sha256_of(content)) != sha256:
        raise UserError(
            f"examples.index: {index.shown}/{name} has sha256 {found[:16]}..., its manifest says {sha256[:16]}...: "
            f"it was changed or cut off; delete {index.shown} and run again"
        )
    return content


def sha256_of(content: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _named(source: str, revision: str | None, fingerprint: str) -> str:
    return f"{source}{f'@{revision}' if revision else ''} ({fingerprint[:12]})"
