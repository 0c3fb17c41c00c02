"""The files of an index: blocks of embedded examples become shards, each by a Ray task of its own.

No process holds more than one shard: a shard's task reads its blocks, and the weights of `retrieve` are fitted on the
first shard alone.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray

from codemmlu.cluster import tasks
from codemmlu.retrieval import answer_transfer, faiss_index, index_store
from codemmlu.retrieval.index_store import IndexSpec, Shard, TransferWeights
from codemmlu.retrieval.retriever import LoadedShard, Retriever, unpack
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from codemmlu.schema import QUESTION, question_from

_QUERIES = 200  # examples whose neighbours are searched both ways for recall
_FITTED = 2000  # examples at most that the weights of `retrieve` are fitted on
_NEIGHBOURS = 64  # of an example that is answered by the others

Hits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def make_shards(
    index: RunDir, blocks: Sequence[tuple[str, int]], kind: str, most: int
) -> tuple[list[Shard], float | None]:
    """One FAISS file, and one file of examples, for at most `most` rows each (or one block, if that is more).

    blocks: names of EXAMPLE files and how many rows each has. Also returns recall@10 of an approximate kind against
    exact over a sample of the first shard's examples, None for exact.
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
    asked = [
        ray.remote(_make_shard).remote(index.address, number, group, kind, trained, queries)
        for number, group in enumerate(groups)
    ]
    made = tasks.results(asked)
    return [shard for shard, _ in made], None if queries is None else recall_at_10([hits for _, hits in made])


def _make_shard(
    address: str,
    number: int,
    blocks: Sequence[str],
    kind: str,
    trained: bytes | None,
    queries: npt.NDArray[np.float32] | None,
) -> tuple[Shard, tuple[Hits, Hits] | None]:
    """A task: reads a shard's blocks, writes its two files, and searches the sample both ways."""
    index = RunDir(address)
    examples = pa.concat_tables([index.read_table(name) for name in blocks])
    rows = _vectors(examples)
    content = faiss_index.build(kind, rows, trained)
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
    offset = number << 32  # rows of different shards are different rows
    return shard, ((exact[0], exact[1] + offset), (approximate[0], approximate[1] + offset))


def recall_at_10(hits: Sequence[tuple[Hits, Hits]]) -> float:
    """The share of the exact ten nearest, over all shards, that the approximate ten nearest have."""

    def best(which: int) -> npt.NDArray[np.int64]:
        near = np.concatenate([hit[which][0] for hit in hits], axis=1)
        rows = np.concatenate([hit[which][1] for hit in hits], axis=1)
        found: npt.NDArray[np.int64] = np.take_along_axis(rows, np.argsort(-near, axis=1)[:, :10], axis=1)
        return found

    pairs = list(zip(best(0), best(1), strict=True))
    return float(np.mean([len(set(exact) & set(other)) / len(exact) for exact, other in pairs]))


def _train(address: str, blocks: Sequence[str]) -> bytes:
    """A task: the lists and codes of an IVF-PQ index, learned from blocks spread evenly over all of them."""
    index, rows = RunDir(address), []
    have = 0
    for place in np.random.default_rng(0).permutation(len(blocks)):
        if have >= faiss_index.TRAINING:
            break
        rows.append(_vectors(index.read_table(blocks[place], ["vector"])))
        have += len(rows[-1])
    return faiss_index.train(np.concatenate(rows)[: faiss_index.TRAINING])


def sample(address: str, blocks: Sequence[str], most: int) -> npt.NDArray[np.float32]:
    """A task: the vectors of at most `most` examples, shape (n, dimensions)."""
    index = RunDir(address)
    return np.concatenate([_vectors(index.read_table(name, ["vector"])) for name in blocks])[:most]


def _vectors(examples: pa.Table) -> npt.NDArray[np.float32]:
    """Shape (n_examples, dimensions)."""
    packed = b"".join(row.as_py() for row in examples["vector"])
    return np.frombuffer(packed, dtype=np.float16).reshape(len(examples), -1).astype(np.float32)


def fit(address: str, shard: Shard, plan: IndexSpec) -> tuple[int, TransferWeights | None]:
    """A task: the vectors' length, and the weights of `retrieve`, from the first shard's examples.

    Each sampled example is answered by the others; copies and near-copies of it are left out, and so is every example
    that is asked as a question. None: no other is there.
    """
    index = RunDir(address)
    examples = index.read_table(shard.examples)
    content = np.frombuffer(index.read(shard.index), dtype=np.uint8)
    rows = _vectors(examples)
    free = np.array([row for row, twin in enumerate(examples["twin"].to_pylist()) if twin not in plan.asked], dtype=int)
    if not free.size:
        return rows.shape[1], None
    others = SelectionPolicy("same", "drop", -1.0, 0.0)
    shards = [LoadedShard(faiss_index.open_index(content), examples, content)]
    library = Retriever(shards, rows.shape[1], None, None, plan.settings, others)
    chosen = np.random.default_rng(plan.seed).permutation(free)[:_FITTED]
    asked = [question_from(row) for row in examples.select(QUESTION.names).take(chosen).to_pylist()]
    near = library.near(asked, rows[chosen], _NEIGHBOURS)
    own = [unpack(row.as_py(), rows.shape[1]) for row in examples["choice_vectors"].take(chosen)]
    tables = [answer_transfer.features(n.question, n.vector, mine, n.solved) for n, mine in zip(near, own, strict=True)]
    right = [answer_transfer.answer_of(question) for question in asked]
    return rows.shape[1], answer_transfer.fit(tables, right, plan.seed, plan.left_out)
