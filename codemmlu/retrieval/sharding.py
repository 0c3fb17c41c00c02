"""The files of an index: blocks of embedded examples become shards, one Ray task per shard.

No process holds more than one shard: a task reads the blocks of a single shard, and the weights of the method
`retrieve` are fitted on the first shard alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray

from codemmlu.cluster import tasks
from codemmlu.retrieval import answer_transfer, faiss_index, index_store
from codemmlu.retrieval.index_store import IndexSpec, Shard, TransferWeights
from codemmlu.retrieval.retriever import LoadedIndex, LoadedShard, Retriever, unpack
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from codemmlu.schema import QUESTION, question_from

_QUERIES = 200  # examples that are searched for both exactly and approximately, for recall
_FITTED = 2000  # the most examples that the weights of `retrieve` are fitted on
_NEIGHBOURS = 64  # neighbours of an example that is answered by the others

# The similarities and the rows that a search found, each of shape (n_queries, k).
Hits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class _ShardSettings:
    """The settings that the tasks of all shards share.

    Attributes:
        address: The index directory.
        kind: `exact`, `hnsw` or `ivfpq`.
        queries: Vectors to measure recall with, shape (n_queries, dimensions); None: recall is not measured.
    """

    address: str
    kind: str
    queries: npt.NDArray[np.float32] | None


def make_shards(
    index: RunDir, blocks: Sequence[tuple[str, int]], kind: str, most: int
) -> tuple[list[Shard], float | None]:
    """Write the shards of an index: a FAISS file and a file of examples for each.

    Args:
        index: The index directory.
        blocks: Names of EXAMPLE files, and how many rows each has.
        kind: `exact`, `hnsw` or `ivfpq`.
        most: The most rows of a shard; a shard of one block may have more.

    Returns:
        The shards, and recall@10 of an approximate kind against exact, over a sample of the first shard's examples;
        None for exact.
    """
    groups: list[list[str]] = []
    room = 0
    for name, count in blocks:
        if count > room:
            groups.append([])
            room = most
        groups[-1].append(name)
        room -= count
    trained = queries = None
    if kind != "exact":
        queries = tasks.call(sample, index.address, groups[0][:1], _QUERIES)
    if kind == "ivfpq":
        trained = ray.put(tasks.call(_train, index.address, [name for group in groups for name in group]))
    settings = _ShardSettings(index.address, kind, queries)
    # `trained` is a reference, which Ray resolves only where it is an argument itself: so it is not in the settings.
    pending = [ray.remote(_make_shard).remote(settings, number, group, trained) for number, group in enumerate(groups)]
    results = tasks.results(pending)
    return [shard for shard, _ in results], None if queries is None else recall_at_10([hits for _, hits in results])


def _make_shard(
    settings: _ShardSettings, number: int, blocks: Sequence[str], trained: bytes | None
) -> tuple[Shard, tuple[Hits, Hits] | None]:
    """Write the two files of a shard, as a Ray task, and search it exactly and approximately.

    Returns:
        The shard, and the exact and the approximate hits of the queries (None where recall is not measured).
    """
    index, queries = RunDir(settings.address), settings.queries
    examples = pa.concat_tables([index.read_table(name) for name in blocks])
    rows = _vectors(examples)
    content = faiss_index.build(settings.kind, rows, trained)
    names = f"{number:05d}/{index_store.INDEX}", f"{number:05d}/{index_store.EXAMPLES}"
    index.write(names[0], content)
    index.write_table(names[1], examples)
    shard = Shard(
        count=len(examples),
        index=names[0],
        index_sha256=index_store.sha256_of(content),
        examples=names[1],
        examples_sha256=index_store.sha256_of(index.read(names[1])),
    )
    if queries is None:
        return shard, None
    opened = faiss_index.open_index(np.frombuffer(content, dtype=np.uint8))
    most = min(10, len(examples))
    exact, approximate = faiss_index.exact_rows(queries, rows, most), faiss_index.search(opened, queries, most)
    offset = number << 32  # tells rows of different shards apart
    return shard, ((exact[0], exact[1] + offset), (approximate[0], approximate[1] + offset))


def recall_at_10(hits: Sequence[tuple[Hits, Hits]]) -> float:
    """Return the share of the exact ten nearest over all shards that the approximate ten nearest contain."""

    def best(which: int) -> npt.NDArray[np.int64]:
        near = np.concatenate([hit[which][0] for hit in hits], axis=1)
        rows = np.concatenate([hit[which][1] for hit in hits], axis=1)
        nearest: npt.NDArray[np.int64] = np.take_along_axis(rows, np.argsort(-near, axis=1)[:, :10], axis=1)
        return nearest

    pairs = list(zip(best(0), best(1), strict=True))
    return float(np.mean([len(set(exact) & set(approximate)) / len(exact) for exact, approximate in pairs]))


def _train(address: str, blocks: Sequence[str]) -> bytes:
    """Train an IVF-PQ index, as a Ray task, on blocks that are spread evenly over all blocks."""
    index, rows = RunDir(address), []
    count = 0
    for number in np.random.default_rng(0).permutation(len(blocks)):
        if count >= faiss_index.TRAINING:
            break
        rows.append(_vectors(index.read_table(blocks[number], ["vector"])))
        count += len(rows[-1])
    return faiss_index.train(np.concatenate(rows)[: faiss_index.TRAINING])


def sample(address: str, blocks: Sequence[str], most: int) -> npt.NDArray[np.float32]:
    """Read the vectors of at most `most` examples, shape (n, dimensions), as a Ray task."""
    index = RunDir(address)
    return np.concatenate([_vectors(index.read_table(name, ["vector"])) for name in blocks])[:most]


def _vectors(examples: pa.Table) -> npt.NDArray[np.float32]:
    """Return the vectors of a table of examples, shape (n_examples, dimensions)."""
    packed = b"".join(row.as_py() for row in examples["vector"])
    return np.frombuffer(packed, dtype=np.float16).reshape(len(examples), -1).astype(np.float32)


def fit(address: str, shard: Shard, spec: IndexSpec) -> tuple[int, TransferWeights | None]:
    """Fit the weights of the method `retrieve` on the examples of a shard, as a Ray task.

    Each sampled example is answered by the others, without copies and near-copies of the example. Examples that are
    also questions of the run are not sampled.

    Args:
        address: The index directory.
        shard: The first shard of the index.
        spec: Inputs of the index.

    Returns:
        The number of dimensions of the vectors, and the weights; None: every example is a question of the run.
    """
    index = RunDir(address)
    examples = index.read_table(shard.examples)
    content = np.frombuffer(index.read(shard.index), dtype=np.uint8)
    rows = _vectors(examples)
    keys = examples["twin"].to_pylist()
    usable = np.array([row for row, key in enumerate(keys) if key not in spec.asked], dtype=int)
    if not usable.size:
        return rows.shape[1], None
    others = SelectionPolicy("same", "drop", -1.0, 0.0)
    shards = [LoadedShard(faiss_index.open_index(content), examples, content)]
    retriever = Retriever(LoadedIndex(shards, rows.shape[1]), None, spec.settings, others)
    chosen = np.random.default_rng(spec.seed).permutation(usable)[:_FITTED]
    questions = [question_from(row) for row in examples.select(QUESTION.names).take(chosen).to_pylist()]
    neighbours = retriever.near(questions, rows[chosen], _NEIGHBOURS)
    choices = [unpack(row.as_py(), rows.shape[1]) for row in examples["choice_vectors"].take(chosen)]
    tables = [
        answer_transfer.features(near.question, near.vector, choice_vectors, near.solved)
        for near, choice_vectors in zip(neighbours, choices, strict=True)
    ]
    right = [answer_transfer.answer_of(question) for question in questions]
    return rows.shape[1], answer_transfer.fit(tables, right, spec.seed, spec.left_out)
