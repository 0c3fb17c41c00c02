"""The Ray Data plan of the index job.

examples -> blocks -> [Ray Data: embed] -> vectors -> [Ray tasks: one FAISS file a shard] -> weights -> manifest
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
from codemmlu.retrieval.embedder import Embedder, open_encoder
from codemmlu.retrieval.index_store import EXAMPLE, IndexManifest, IndexSpec
from codemmlu.retrieval.retriever import pack
from codemmlu.retrieval.sharding import fit, make_shards
from codemmlu.retrieval.texts import text_of
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, question_from, to_table

_BLOCK = 128  # examples in one embedding task
_THREADS = 4  # cores of one embedding actor: more do not make a small model faster
_BUILDING = "building"


def build(progress: Progress, index: RunDir, plan: IndexSpec, examples: Sequence[Question]) -> IndexManifest:
    """Makes an index of examples that all have answers. What an earlier attempt left is made again."""
    earlier = index_store.read_manifest(index)
    index.clear(index_store.MANIFEST)  # from here on, what it says is no longer there
    for shard in earlier.shards if earlier else ():
        index.clear(shard.index.rpartition("/")[0])
    index.clear(_BUILDING)
    names = []
    for start in range(0, len(examples), _BLOCK):
        names.append(f"{start // _BLOCK:06d}.parquet")
        index.write_table(f"{_BUILDING}/{names[-1]}", to_table(examples[start : start + _BLOCK], Question))
    rate = _embedded(progress, index, names, plan, len(examples))
    blocks = [(f"{_BUILDING}/vectors/{name}", min(_BLOCK, len(examples) - i * _BLOCK)) for i, name in enumerate(names)]
    shards, recall = make_shards(index, blocks, plan.kind, plan.settings.shard)
    dimensions, weights = tasks.call(fit, index.address, shards[0], plan)
    manifest = IndexManifest(
        version=index_store.VERSION,
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
    index.write(index_store.MANIFEST, manifest.model_dump_json(indent=1).encode())
    index.clear(_BUILDING)
    return manifest


def refit(index: RunDir, manifest: IndexManifest, plan: IndexSpec) -> IndexManifest:
    """The same index with its weights fitted anew: other examples than before are asked now."""
    _, weights = tasks.call(fit, index.address, manifest.shards[0], plan)
    return manifest.model_copy(update={"weights": weights})


def _embedded(progress: Progress, index: RunDir, names: Sequence[str], plan: IndexSpec, count: int) -> float:
    """Embeds all blocks. Examples a second: from the first block that is done to the last, start-up not counted."""
    first: tuple[float, int] | None = None
    done = 0
    try:
        with progress.progress("examples", count, "examples") as line, tasks.without_actor_warning():
            for counts in _embed(index, names, plan):
                done += counts["examples"]
                line.advance(counts["examples"], 0)
                first = first or (time.monotonic(), done)
                alone = counts["examples"] / max(counts["seconds"], 1e-9)
    except ray.exceptions.RayError as error:
        raise tasks.reason(error) from error
    assert first is not None, "there is at least one example"
    rest, seconds = done - first[1], time.monotonic() - first[0]
    return rest / seconds if rest and seconds > 0 else alone


def _actors(blocks: int, device: str) -> int:
    """How many actors embed at once."""
    here = session.join()
    if device == "cuda":
        return max(1, min(blocks, here.gpus))
    return max(1, min(blocks, here.cpus // min(here.cpus, _THREADS)))


def _embed(index: RunDir, names: Sequence[str], plan: IndexSpec) -> Iterator[dict[str, Any]]:
    """Counts and seconds of work, as blocks are done."""
    tasks.quiet()
    threads = min(session.join().cpus, _THREADS)
    on_gpu = plan.embedder.device == "cuda"
    counted = ray.data.from_items([{"block": name} for name in names], override_num_blocks=len(names)).map_batches(
        EmbedBlocks,
        fn_constructor_args=(plan.embedder, plan.settings, index.address, threads),
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

    def __init__(self, embedder: Embedder, settings: ExampleSettings, address: str, threads: int) -> None:
        self._encoder = open_encoder(replace(embedder, threads=threads))
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
