"""How a finished index reaches the actors: one copy on each node, for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from codemmlu.cluster import tasks
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval import answer_transfer, faiss_index, index_store
from codemmlu.retrieval.embedder import Embedder, open_encoder
from codemmlu.retrieval.index_store import IndexManifest
from codemmlu.retrieval.retriever import LoadedShard, Retriever
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question

_THREADS = 4  # cores of a task that looks up: more do not make a small model faster


@dataclass(frozen=True)
class SharedIndex:
    """An index on its way to actors. It crosses as it stands: the references lead to one copy on each node.

    shards: the FAISS file and the examples of each; a file that is too large for the object store is a path instead,
    and mapped into memory from there
    """

    shards: tuple[tuple[Any, Any], ...]
    manifest: IndexManifest
    embedder: Embedder
    settings: ExampleSettings
    rule: SelectionPolicy


def publish(
    index: RunDir, manifest: IndexManifest, embedder: Embedder, settings: ExampleSettings, rule: SelectionPolicy
) -> SharedIndex:
    """Puts an index into Ray's object store: once for all pools of a run.

    Raises UserError when a file is not the one the manifest names, or was made by another version of `transfer`.
    """
    if manifest.weights and manifest.weights.features != answer_transfer.FEATURES:
        raise UserError(f"examples.index: {index.shown} was made by another version; delete it and run again")
    # Half of the smallest node's object store: blocks pass through it, too.
    room = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]) / 2
    size = sum(index.size(name) for shard in manifest.shards for name in (shard.index, shard.examples))
    mapped = index.is_local and size > room
    shards = []
    for shard in manifest.shards:
        content = index_store.read_checked(index, shard.index, shard.index_sha256)
        where = index.path(shard.index) if mapped else ray.put(np.frombuffer(content, dtype=np.uint8))
        packed = index_store.read_checked(index, shard.examples, shard.examples_sha256)
        unused = [] if rule.diversity else ["vector"]
        examples = pq.read_table(pa.BufferReader(packed)).drop_columns(unused)
        shards.append((where, ray.put(examples.combine_chunks())))
    return SharedIndex(tuple(shards), manifest, embedder, settings, rule)


def nearest(shared: SharedIndex, questions: Sequence[Question], most: int) -> list[list[str]]:
    """The task_ids of at most `most` examples nearest to each question, nearest first, as the shared rule allows."""
    found: list[list[str]] = tasks.call(_nearest, shared, list(questions), most)
    return found


def _nearest(shared: SharedIndex, questions: list[Question], most: int) -> list[list[str]]:
    """A task."""
    near = load(shared, _THREADS).retrieve(questions, most)
    return [[solved.example.task_id for solved in one.solved] for one in near]


def load(shared: SharedIndex, threads: int, device: str = "cpu") -> Retriever:
    """In an actor: the index over the node's one copy, and an embedder of its own.

    threads: cores that embedding and searching may take: one beside an engine
    device: of the embedder; beside an engine the CPU, as the engine takes its GPU's memory for itself
    """
    faiss_index.use_threads(threads)
    shards = []
    for where, examples in shared.shards:
        content = np.memmap(where, dtype=np.uint8, mode="r") if isinstance(where, str) else ray.get(where)
        shards.append(LoadedShard(faiss_index.open_index(content), ray.get(examples), content))
    encoder = open_encoder(replace(shared.embedder, threads=threads, device=device))
    manifest = shared.manifest
    return Retriever(shards, manifest.dimensions, manifest.weights, encoder, shared.settings, shared.rule)
