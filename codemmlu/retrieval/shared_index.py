"""The way of a finished index to the actors: all actors of a node share one copy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray

from codemmlu.cluster import tasks
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval import answer_transfer, faiss_index, index_store
from codemmlu.retrieval.embedder import Embedder, open_encoder
from codemmlu.retrieval.index_store import IndexManifest
from codemmlu.retrieval.retriever import LoadedIndex, LoadedShard, Retriever
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question

_THREADS = 4  # cores of a task that searches: more cores do not make a small model faster


@dataclass(frozen=True)
class SharedIndex:
    """An index that can be sent to actors: its references lead to one copy on each node.

    Attributes:
        shards: Reference to the FAISS file and to the examples of each shard. Where the index is too large for the
            object store, the FAISS file is a path instead, and is mapped into memory.
        manifest: Manifest of the index.
        embedder: The embedder of questions.
        settings: The recipe's section `examples`.
        policy: The examples that a question may see.
    """

    shards: tuple[tuple[Any, Any], ...]
    manifest: IndexManifest
    embedder: Embedder
    settings: ExampleSettings
    policy: SelectionPolicy


def publish(
    index: RunDir, manifest: IndexManifest, embedder: Embedder, settings: ExampleSettings, policy: SelectionPolicy
) -> SharedIndex:
    """Put an index into Ray's object store, once for all pools of a run.

    Args:
        index: The index directory.
        manifest: Manifest of the index.
        embedder: The embedder of questions.
        settings: The recipe's section `examples`.
        policy: The examples that a question may see.

    Returns:
        The index, to be sent to actors.

    Raises:
        UserError: A file is not the one that the manifest names, or another version of `answer_transfer` fitted the
            weights.
    """
    if manifest.weights and manifest.weights.features != answer_transfer.FEATURES:
        raise UserError(f"{index.shown} was made by another version; delete it and run again", key="examples.index")
    # The index may take half of the smallest node's object store, as blocks pass through the store, too.
    room = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]) / 2
    size = sum(index.size(name) for shard in manifest.shards for name in (shard.index, shard.examples))
    mapped = index.is_local and size > room
    shards = []
    for shard in manifest.shards:
        content = index_store.read_checked(index, shard.index, shard.index_sha256)
        location = index.path(shard.index) if mapped else ray.put(np.frombuffer(content, dtype=np.uint8))
        unused = [] if policy.diversity else ["vector"]
        examples = index_store.read_examples(index, shard).drop_columns(unused)
        shards.append((location, ray.put(examples.combine_chunks())))
    return SharedIndex(tuple(shards), manifest, embedder, settings, policy)


def nearest(shared: SharedIndex, questions: Sequence[Question], most: int) -> list[list[str]]:
    """Return the task_ids of at most `most` examples that each question may see, nearest first."""
    task_ids: list[list[str]] = tasks.call(_nearest, shared, list(questions), most)
    return task_ids


def _nearest(shared: SharedIndex, questions: list[Question], most: int) -> list[list[str]]:
    """Search as `nearest` does, as a Ray task."""
    neighbours = load(shared, _THREADS).retrieve(questions, most)
    return [[solved.example.task_id for solved in near.solved] for near in neighbours]


def load(shared: SharedIndex, threads: int, device: str = "cpu") -> Retriever:
    """Open an index in an actor: over the node's one copy, with an embedder of the actor's own.

    Args:
        shared: The index.
        threads: Cores that embedding and searching may take: one beside an engine.
        device: Device of the embedder: the CPU beside an engine, as the engine takes the whole memory of the GPU.

    Returns:
        The retriever.
    """
    faiss_index.use_threads(threads)
    shards = []
    for location, examples in shared.shards:
        content = np.memmap(location, dtype=np.uint8, mode="r") if isinstance(location, str) else ray.get(location)
        shards.append(LoadedShard(faiss_index.open_index(content), ray.get(examples), content))
    encoder = open_encoder(replace(shared.embedder, threads=threads, device=device))
    index = LoadedIndex(shards, shared.manifest.dimensions, shared.manifest.weights)
    return Retriever(index, encoder, shared.settings, shared.policy)
