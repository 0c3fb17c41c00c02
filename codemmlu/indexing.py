"""The Ray Data plan of the index job, and how a finished index reaches the actors: once a node, for all of them.

examples -> blocks -> [Ray Data: embed] -> vectors -> [Ray tasks: one FAISS file a shard] -> weights -> manifest

No process holds more than one shard: a shard's task reads its blocks, and the weights of `retrieve` are fitted on the
first shard alone.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from codemmlu import cluster
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings
from codemmlu.report.terminal import Terminal
from codemmlu.retrieval import store, transfer, vectors
from codemmlu.retrieval.encoder import Embedder, Encoder, OpenEncoder, open_encoder
from codemmlu.retrieval.library import Library, OpenShard, pack, unpack
from codemmlu.retrieval.neighbours import Rule
from codemmlu.retrieval.store import EXAMPLE, Manifest, Plan, Shard, Weights
from codemmlu.retrieval.texts import text_of
from codemmlu.rows import QUESTION, Question, question_from, to_table
from codemmlu.run_dir import RunDir

_BLOCK = 128  # examples in one embedding task
_QUERIES = 200  # examples whose neighbours are searched both ways for recall
_FITTED = 2000  # examples at most that the weights of `retrieve` are fitted on
_NEIGHBOURS = 64  # of an example that is answered by the others
_THREADS = 4  # cores of one embedding actor: more do not make a small model faster
_BUILDING = "building"

Hits = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def build(
    terminal: Terminal, index: RunDir, plan: Plan, examples: Sequence[Question], opens: OpenEncoder = open_encoder
) -> Manifest:
    """Makes an index of examples that all have answers. What an earlier attempt left is made again."""
    earlier = store.read_manifest(index)
    index.clear(store.MANIFEST)  # from here on, what it says is no longer there
    for shard in earlier.shards if earlier else ():
        index.clear(shard.index.rpartition("/")[0])
    index.clear(_BUILDING)
    names = []
    for start in range(0, len(examples), _BLOCK):
        names.append(f"{start // _BLOCK:06d}.parquet")
        index.write_table(f"{_BUILDING}/{names[-1]}", to_table(examples[start : start + _BLOCK], Question))
    rate = _embedded(terminal, index, names, plan, opens, len(examples))
    blocks = [(f"{_BUILDING}/vectors/{name}", min(_BLOCK, len(examples) - i * _BLOCK)) for i, name in enumerate(names)]
    shards, recall = make_shards(index, blocks, plan.kind, plan.settings.shard)
    dimensions, weights = _call(_fit, index.address, shards[0], plan)
    manifest = Manifest(
        version=store.VERSION,
        fingerprint=plan.fingerprint,
        embedder=plan.embedder.source,
        revision=plan.embedder.revision,
        embedder_fingerprint=plan.embedder.fingerprint,
        text=plan.settings.text,
        metric="cosine",
        kind=plan.kind,
        count=len(examples),
        dimensions=dimensions,
        shards=tuple(shards),
        weights=weights,
        recall_at_10=recall,
        examples_per_second=rate,
    )
    index.write(store.MANIFEST, manifest.model_dump_json(indent=1).encode())
    index.clear(_BUILDING)
    return manifest


def refit(index: RunDir, manifest: Manifest, plan: Plan) -> Manifest:
    """The same index with its weights fitted anew: other examples than before are asked now."""
    _, weights = _call(_fit, index.address, manifest.shards[0], plan)
    return manifest.model_copy(update={"weights": weights})


def _embedded(
    terminal: Terminal, index: RunDir, names: Sequence[str], plan: Plan, opens: OpenEncoder, count: int
) -> float:
    """Embeds all blocks. Examples a second: from the first block that is done to the last, start-up not counted."""
    first: tuple[float, int] | None = None
    done = 0
    try:
        with terminal.progress("examples", count, "examples") as progress, cluster.without_actor_warning():
            for counts in _embed(index, names, plan, opens):
                done += counts["examples"]
                progress.advance(counts["examples"], 0)
                first = first or (time.monotonic(), done)
                alone = counts["examples"] / max(counts["seconds"], 1e-9)
    except ray.exceptions.RayError as error:
        raise cluster.reason(error) from error
    assert first is not None, "there is at least one example"
    rest, seconds = done - first[1], time.monotonic() - first[0]
    return rest / seconds if rest and seconds > 0 else alone


def _actors(blocks: int, device: str) -> int:
    """How many actors embed at once."""
    here = cluster.join()
    if device == "cuda":
        return max(1, min(blocks, here.gpus))
    return max(1, min(blocks, here.cpus // min(here.cpus, _THREADS)))


def _embed(index: RunDir, names: Sequence[str], plan: Plan, opens: OpenEncoder) -> Iterator[dict[str, Any]]:
    """Counts and seconds of work, as blocks are done."""
    cluster.quiet()
    threads = min(cluster.join().cpus, _THREADS)
    on_gpu = plan.embedder.device == "cuda"
    counted = ray.data.from_items([{"block": name} for name in names], override_num_blocks=len(names)).map_batches(
        EmbedBlocks,
        fn_constructor_args=(opens, plan.embedder, plan.settings, index.address, threads),
        batch_size=1,  # each is a block of its own; with GPUs Ray Data does not take None
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=_actors(len(names), plan.embedder.device)),
        num_cpus=threads,
        num_gpus=1 if on_gpu else None,
    )
    for block in counted.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from block.to_pylist()


class EmbedBlocks:
    """The actor of the embedding pool: reads a block of examples, and keeps it with the vectors of what is in it."""

    def __init__(
        self, opens: OpenEncoder, embedder: Embedder, settings: ExampleSettings, address: str, threads: int
    ) -> None:
        self._encoder = opens(replace(embedder, threads=threads))
        self._settings, self._index = settings, RunDir(address)

    def __call__(self, names: pa.Table) -> pa.Table:
        """The name of a block in; out, how many examples it has and how many seconds they took."""
        began = time.monotonic()
        counts = [self._one(str(name)) for name in names["block"].to_pylist()]
        return pa.table({"examples": [sum(counts)], "seconds": [time.monotonic() - began]})

    def _one(self, name: str) -> int:
        examples = [question_from(row) for row in self._index.read_table(f"{_BUILDING}/{name}").to_pylist()]
        texts = [text_of(example, self._settings) for example in examples]
        choices = [choice for example in examples for choice in example.choices]
        distinct = list(dict.fromkeys([*texts, *choices]))
        encoded = self._encoder.encode(distinct)
        place = {text: row for row, text in enumerate(distinct)}
        for text, vector in zip(distinct, encoded, strict=True):
            if not np.isfinite(vector).all():
                raise UserError(f"examples.embedder: its vector of {text[:80]!r} is not finite; use another")
        rows = [
            pack(example, encoded[place[text]], encoded[[place[choice] for choice in example.choices]])
            for example, text in zip(examples, texts, strict=True)
        ]
        self._index.write_table(f"{_BUILDING}/vectors/{name}", pa.Table.from_pylist(rows, schema=EXAMPLE))
        return len(rows)


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
        queries = _call(sample, index.address, groups[0][:1], _QUERIES)
    if kind == "ivfpq":
        trained = ray.put(_call(_train, index.address, [name for group in groups for name in group]))
    asked = [
        ray.remote(_make_shard).remote(index.address, number, group, kind, trained, queries)
        for number, group in enumerate(groups)
    ]
    made = _get(asked)
    return [shard for shard, _ in made], None if queries is None else _recall([hits for _, hits in made])


def _call(task: Any, *arguments: Any) -> Any:
    (result,) = _get([ray.remote(task).remote(*arguments)])
    return result


def _get(tasks: list[Any]) -> list[Any]:
    try:
        results: list[Any] = ray.get(tasks)
    except ray.exceptions.RayError as error:
        raise cluster.reason(error) from error
    return results


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
    content = vectors.build(kind, rows, trained)
    names = f"{number:05d}/{store.INDEX}", f"{number:05d}/{store.EXAMPLES}"
    index.write(names[0], content)
    index.write_table(names[1], examples)
    shard = Shard(
        count=len(examples),
        index=names[0],
        index_sha256=store.sha256_of(content),
        examples=names[1],
        examples_sha256=store.sha256_of(index.read(names[1])),
    )
    if queries is None:
        return shard, None
    opened = vectors.open_index(np.frombuffer(content, dtype=np.uint8))
    most = min(10, len(examples))
    exact, approximate = vectors.exact_rows(queries, rows, most), vectors.search(opened, queries, most)
    offset = number << 32  # rows of different shards are different rows
    return shard, ((exact[0], exact[1] + offset), (approximate[0], approximate[1] + offset))


def _recall(hits: Sequence[tuple[Hits, Hits]]) -> float:
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
        if have >= vectors.TRAINING:
            break
        rows.append(_vectors(index.read_table(blocks[place], ["vector"])))
        have += len(rows[-1])
    return vectors.train(np.concatenate(rows)[: vectors.TRAINING])


def sample(address: str, blocks: Sequence[str], most: int) -> npt.NDArray[np.float32]:
    """A task: the vectors of at most `most` examples, shape (n, dimensions)."""
    index = RunDir(address)
    return np.concatenate([_vectors(index.read_table(name, ["vector"])) for name in blocks])[:most]


def _vectors(examples: pa.Table) -> npt.NDArray[np.float32]:
    """Shape (n_examples, dimensions)."""
    packed = b"".join(row.as_py() for row in examples["vector"])
    return np.frombuffer(packed, dtype=np.float16).reshape(len(examples), -1).astype(np.float32)


def _fit(address: str, shard: Shard, plan: Plan) -> tuple[int, Weights | None]:
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
    others = Rule("same", "drop", -1.0, 0.0)
    shards = [OpenShard(vectors.open_index(content), examples, content)]
    library = Library(shards, rows.shape[1], None, None, plan.settings, others)
    chosen = np.random.default_rng(plan.seed).permutation(free)[:_FITTED]
    asked = [question_from(row) for row in examples.select(QUESTION.names).take(chosen).to_pylist()]
    near = library.near(asked, rows[chosen], _NEIGHBOURS)
    own = [unpack(row.as_py(), rows.shape[1]) for row in examples["choice_vectors"].take(chosen)]
    tables = [transfer.features(n.question, n.vector, mine, n.solved) for n, mine in zip(near, own, strict=True)]
    right = [transfer.answer_of(question) for question in asked]
    return rows.shape[1], transfer.fit(tables, right, plan.seed, plan.left_out)


@dataclass(frozen=True)
class Shared:
    """An index on its way to actors. It crosses as it stands: the references lead to one copy on each node.

    shards: the FAISS file and the examples of each; a file that is too large for the object store is a path instead,
    and mapped into memory from there
    """

    shards: tuple[tuple[Any, Any], ...]
    manifest: Manifest
    embedder: Embedder
    settings: ExampleSettings
    rule: Rule
    opens: OpenEncoder


def share(
    index: RunDir,
    manifest: Manifest,
    embedder: Embedder,
    settings: ExampleSettings,
    rule: Rule,
    opens: OpenEncoder = open_encoder,
) -> Shared:
    """Puts an index into Ray's object store: once for all pools of a run.

    Raises UserError when a file is not the one the manifest names, or was made by another version of `transfer`.
    """
    if manifest.weights and manifest.weights.features != transfer.FEATURES:
        raise UserError(f"examples.index: {index.shown} was made by another version; delete it and run again")
    # Half of the smallest node's object store: blocks pass through it, too.
    room = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"]) / 2
    size = sum(index.size(name) for shard in manifest.shards for name in (shard.index, shard.examples))
    mapped = index.is_local and size > room
    shards = []
    for shard in manifest.shards:
        content = store.read_checked(index, shard.index, shard.index_sha256)
        where = index.path(shard.index) if mapped else ray.put(np.frombuffer(content, dtype=np.uint8))
        packed = store.read_checked(index, shard.examples, shard.examples_sha256)
        unused = [] if rule.diversity else ["vector"]
        examples = pq.read_table(pa.BufferReader(packed)).drop_columns(unused)
        shards.append((where, ray.put(examples.combine_chunks())))
    return Shared(tuple(shards), manifest, embedder, settings, rule, opens)


def nearest(shared: Shared, questions: Sequence[Question], most: int) -> list[list[str]]:
    """The task_ids of at most `most` examples nearest to each question, nearest first, as the shared rule allows."""
    found: list[list[str]] = _call(_nearest, shared, list(questions), most)
    return found


def _nearest(shared: Shared, questions: list[Question], most: int) -> list[list[str]]:
    """A task."""
    near = open_shared(shared, _THREADS).look_up(questions, most)
    return [[solved.example.task_id for solved in one.solved] for one in near]


def open_shared(shared: Shared, threads: int) -> Library:
    """In an actor: the index over the node's one copy, and an embedder of its own.

    threads: cores that embedding and searching may take: one beside an engine
    """
    vectors.use_threads(threads)
    shards = []
    for where, examples in shared.shards:
        content = np.memmap(where, dtype=np.uint8, mode="r") if isinstance(where, str) else ray.get(where)
        shards.append(OpenShard(vectors.open_index(content), ray.get(examples), content))
    encoder: Encoder = shared.opens(replace(shared.embedder, threads=threads))
    manifest = shared.manifest
    return Library(shards, manifest.dimensions, manifest.weights, encoder, shared.settings, shared.rule)
