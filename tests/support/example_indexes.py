"""Examples for tests, and indexes of them: libraries made in this process without Ray, and whole ones made with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from codemmlu.cli.console import Terminal
from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval import faiss_index
from codemmlu.retrieval.answer_transfer import FEATURES
from codemmlu.retrieval.embedder import Encoder, Vectors, text_of
from codemmlu.retrieval.index_store import EXAMPLE, IndexManifest, IndexSpec, TransferWeights
from codemmlu.retrieval.retriever import LoadedIndex, LoadedShard, Retriever, pack
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question
from tests.support.embedders import HASHED, BreakableEncoder
from tests.support.rows import question

if TYPE_CHECKING:
    from codemmlu.retrieval import shared_index

SETTINGS = ExampleSettings(source="examples.csv")
RULE = SelectionPolicy(exclude="task_id", near_duplicates="keep", min_similarity=-1.0, diversity=0.0)
# A choice is right as far as it is like the neighbours' right ones.
LIKE_RIGHT = TransferWeights(
    features=FEATURES,
    scales=(1.0,) * len(FEATURES),
    weights=tuple(float("right, likeness" in name) for name in FEATURES),
    fitted_on=0,
    seed=0,
    left_out="",
)


def solved(task_id: str, text: str, choices: Sequence[str] = ("yes", "no"), answer: str = "A") -> Question:
    """Return an example."""
    return question(task_id, question=text, choices=tuple(choices), answer=answer)


def packed(examples: Sequence[Question], settings: ExampleSettings, encoder: Encoder) -> tuple[Vectors, pa.Table]:
    """Return the vectors of examples, at the precision at which they are stored, and the rows that an index keeps."""
    encoded = encoder.encode([text_of(example, settings) for example in examples])
    rows = encoded.astype(np.float16).astype(np.float32)
    table = [pack(one, row, encoder.encode(one.choices)) for one, row in zip(examples, rows, strict=True)]
    return rows, pa.Table.from_pylist(table, schema=EXAMPLE)


def library(
    examples: Sequence[Question],
    encoder: Encoder | None = None,
    settings: ExampleSettings = SETTINGS,
    shard: int = 1_000_000,
    kind: str = "exact",
    asks_with: Encoder | None = None,
    **rule: Any,
) -> Retriever:
    """Open a library of these examples in shards of at most `shard`; `rule` changes RULE.

    asks_with: embeds the questions, where another encoder embedded the examples
    """
    encoder = encoder or BreakableEncoder()
    shards = []
    for start in range(0, len(examples), shard):
        rows, table = packed(examples[start : start + shard], settings, encoder)
        buffer = np.frombuffer(faiss_index.build(kind, rows), dtype=np.uint8)
        shards.append(LoadedShard(faiss_index.open_index(buffer), table, buffer))
    index = LoadedIndex(shards, rows.shape[1], LIKE_RIGHT)
    return Retriever(index, asks_with or encoder, settings, replace(RULE, **rule))


def sentence(seed: int) -> str:
    """Return five words out of fifty."""
    return " ".join(f"word{n}" for n in np.random.default_rng(seed).integers(0, 50, 5))


EXAMPLES = [
    solved(f"e{n}", sentence(n), (sentence(n + 1000), sentence(n + 2000), "neither"), "ABC"[n % 3]) for n in range(300)
]
QUESTIONS = [question(f"q{n}", question=sentence(n + 5000)) for n in range(40)]


@dataclass(frozen=True)
class Made:
    """An index that stands in a folder."""

    folder: Path
    manifest: IndexManifest


def build(
    folder: Path,
    examples: Sequence[Question] = EXAMPLES,
    kind: str = "exact",
    asked: frozenset[str] = frozenset(),
    **settings: Any,
) -> IndexManifest:
    """Make an index with Ray, by the hashing embedder."""
    from codemmlu.retrieval import index_builder

    index = RunDir(str(folder))
    index.create()
    plan = IndexSpec(ExampleSettings(source="x", **settings), HASHED, kind, "f", 0, asked, "left out" if asked else "")
    return index_builder.build(Terminal(), index, plan, examples)


def publish_index(folder: Path, manifest: IndexManifest, rule: SelectionPolicy = RULE) -> "shared_index.SharedIndex":
    """Put an index into Ray's object store."""
    from codemmlu.retrieval import shared_index

    return shared_index.publish(RunDir(str(folder)), manifest, HASHED, ExampleSettings(source="x"), rule)


def opened(folder: Path, manifest: IndexManifest, rule: SelectionPolicy = RULE) -> Retriever:
    """Open an index as an actor does."""
    from codemmlu.retrieval import shared_index

    return shared_index.load(publish_index(folder, manifest, rule), threads=1)


def nearest_of(index: Retriever) -> list[list[tuple[str, float]]]:
    """Return the five nearest of every question in QUESTIONS, with their similarities."""
    return [[(s.example.task_id, round(s.similarity, 3)) for s in one.solved] for one in index.retrieve(QUESTIONS, 5)]
