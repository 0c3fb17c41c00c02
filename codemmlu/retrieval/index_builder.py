"""The build of an index, with Ray Data and Ray tasks.

examples -> blocks -> [Ray Data: embed] -> vectors -> [Ray tasks: one FAISS file per shard] -> weights -> manifest
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data

from codemmlu.cluster import session, tasks
from codemmlu.errors import Progress, UserError
from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval import index_store
from codemmlu.retrieval.embedder import Embedder, open_encoder, text_of
from codemmlu.retrieval.index_store import EXAMPLE, IndexManifest, IndexSpec
from codemmlu.retrieval.retriever import pack
from codemmlu.retrieval.sharding import fit, make_shards
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, question_from, to_table

_BLOCK = 128  # examples in one embedding task
_THREADS = 4  # cores of one embedding actor: more cores do not make a small model faster
_BUILDING = "building"


def build(progress: Progress, index: RunDir, spec: IndexSpec, examples: Sequence[Question]) -> IndexManifest:
    """Build an index from the start; files of an earlier attempt are removed.

    Args:
        progress: Where the build reports to the user.
        index: The index directory.
        spec: Inputs of the index.
        examples: Examples to index; each has an answer.

    Returns:
        The manifest of the finished index.
    """
    earlier = index_store.read_manifest(index)
    index.clear(index_store.MANIFEST)  # the files that the manifest lists are removed from here on
    for shard in earlier.shards if earlier else ():
        index.clear(shard.index.rpartition("/")[0])
    index.clear(_BUILDING)
    names = []
    for start in range(0, len(examples), _BLOCK):
        names.append(f"{start // _BLOCK:06d}.parquet")
        index.write_table(f"{_BUILDING}/{names[-1]}", to_table(examples[start : start + _BLOCK], Question))
    rate = _embed_blocks(progress, index, names, spec, len(examples))
    blocks = [(f"{_BUILDING}/vectors/{name}", min(_BLOCK, len(examples) - i * _BLOCK)) for i, name in enumerate(names)]
    shards, recall = make_shards(index, blocks, spec.kind, spec.settings.shard)
    dimensions, weights = tasks.call(fit, index.address, shards[0], spec)
    manifest = IndexManifest(
        version=index_store.VERSION,
        fingerprint=spec.fingerprint,
        embedder=spec.embedder.source,
        revision=spec.embedder.revision,
        embedder_fingerprint=spec.embedder.fingerprint,
        text=spec.settings.text,
        metric="cosine",
        kind=spec.kind,
        count=len(examples),
        dimensions=dimensions,
        shards=tuple(shards),
        weights=weights,
        recall_at_10=recall,
        examples_per_second=rate,
    )
    index.write(index_store.MANIFEST, manifest.model_dump_json(indent=1).encode())
    index.clear(_BUILDING)
    return manifest


def refit(index: RunDir, manifest: IndexManifest, spec: IndexSpec) -> IndexManifest:
    """Fit the weights of an index again, as other examples than before are questions of the run now."""
    _, weights = tasks.call(fit, index.address, manifest.shards[0], spec)
    return manifest.model_copy(update={"weights": weights})


def _embed_blocks(progress: Progress, index: RunDir, names: Sequence[str], spec: IndexSpec, count: int) -> float:
    """Embed all blocks, and return the examples per second after the first block, without start-up."""
    first: tuple[float, int] | None = None
    done = 0
    try:
        with progress.progress("examples", count, "examples") as line, tasks.without_actor_warning():
            for counts in _run_pool(index, names, spec):
                done += counts["examples"]
                line.advance(counts["examples"], 0)
                first = first or (time.monotonic(), done)
                block_rate = counts["examples"] / max(counts["seconds"], 1e-9)
    except ray.exceptions.RayError as error:
        raise tasks.reason(error) from error
    assert first is not None, "there is at least one example"
    rest, seconds = done - first[1], time.monotonic() - first[0]
    return rest / seconds if rest and seconds > 0 else block_rate


def _actors(blocks: int, device: str) -> int:
    """Return how many actors embed at once."""
    resources = session.join()
    if device == "cuda":
        return max(1, min(blocks, resources.gpus))
    return max(1, min(blocks, resources.cpus // min(resources.cpus, _THREADS)))


def _run_pool(index: RunDir, names: Sequence[str], spec: IndexSpec) -> Iterator[dict[str, Any]]:
    """Embed blocks in a pool of actors, and yield the examples and seconds of each finished block."""
    tasks.quiet()
    threads = min(session.join().cpus, _THREADS)
    on_gpu = spec.embedder.device == "cuda"
    counts = ray.data.from_items([{"block": name} for name in names], override_num_blocks=len(names)).map_batches(
        EmbedBlocks,
        fn_constructor_args=(spec.embedder, spec.settings, index.address, threads),
        batch_size=1,  # each row is a Ray Data block of its own; with GPUs Ray Data does not accept None
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=_actors(len(names), spec.embedder.device)),
        num_cpus=threads,
        num_gpus=1 if on_gpu else None,
    )
    for block in counts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from block.to_pylist()


class EmbedBlocks:
    """An actor of the embedding pool: it reads blocks of examples and writes them with their vectors."""

    def __init__(self, embedder: Embedder, settings: ExampleSettings, address: str, threads: int) -> None:
        """Open the embedder with `threads` CPU threads, and the index directory at `address`."""
        self._encoder = open_encoder(replace(embedder, threads=threads))
        self._settings, self._index = settings, RunDir(address)

    def __call__(self, names: pa.Table) -> pa.Table:
        """Embed blocks by name (column `block`), and return how many `examples` and `seconds` that took."""
        began = time.monotonic()
        counts = [self._embed(str(name)) for name in names["block"].to_pylist()]
        return pa.table({"examples": [sum(counts)], "seconds": [time.monotonic() - began]})

    def _embed(self, name: str) -> int:
        """Embed the block of a name, and return how many examples it has."""
        examples = [question_from(row) for row in self._index.read_table(f"{_BUILDING}/{name}").to_pylist()]
        texts = [text_of(example, self._settings) for example in examples]
        choices = [choice for example in examples for choice in example.choices]
        distinct = list(dict.fromkeys([*texts, *choices]))
        encoded = self._encoder.encode(distinct)
        row_of = {text: row for row, text in enumerate(distinct)}
        for text, vector in zip(distinct, encoded, strict=True):
            if not np.isfinite(vector).all():
                raise UserError(f"its vector of {text[:80]!r} is not finite; use another", key="examples.embedder")
        rows = [
            pack(example, encoded[row_of[text]], encoded[[row_of[choice] for choice in example.choices]])
            for example, text in zip(examples, texts, strict=True)
        ]
        self._index.write_table(f"{_BUILDING}/vectors/{name}", pa.Table.from_pylist(rows, schema=EXAMPLE))
        return len(rows)
