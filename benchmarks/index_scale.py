"""A large index on this machine: shards built by tasks, searched one after the other.

    python benchmarks/index_scale.py [--vectors 1000000] [--shard 200000] [--kind auto] [--json]

Synthetic examples: unit vectors of 384 dimensions around 2,000 centres, as texts of some kinds lie, written as the
blocks that the embedding actors write. Prints the time and the peak memory of building, recall@10 against exact, and
searches a second.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from codemmlu.cluster.environment import configure
from codemmlu.retrieval import faiss_index, sharding
from codemmlu.retrieval.index_store import EXAMPLE, kind_for
from codemmlu.run_dir import RunDir

_DIMENSIONS, _CENTRES, _BLOCK = 384, 2_000, 10_000


def write_backlog(index: RunDir, count: int) -> list[tuple[str, int]]:
    """EXAMPLE files of `count` rows in all; only what building reads is filled."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((_CENTRES, _DIMENSIONS), dtype=np.float32)
    blocks = []
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        rows = centres[rng.integers(_CENTRES, size=size)]
        rows = rows + rng.standard_normal((size, _DIMENSIONS), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        packed = [row.tobytes() for row in rows.astype(np.float16)]
        columns: dict[str, Any] = {name: pa.nulls(size, EXAMPLE.field(name).type) for name in EXAMPLE.names}
        columns["task_id"] = pa.array([f"s{start + i}" for i in range(size)])
        columns["vector"] = pa.array(packed, EXAMPLE.field("vector").type)
        blocks.append((f"vectors/{start // _BLOCK:06d}.parquet", size))
        index.write_table(blocks[-1][0], pa.table(columns, schema=EXAMPLE))
    return blocks


class Peak:
    """The most memory this process and its children held together (proportional set size), read each second."""

    def __init__(self) -> None:
        import threading

        self.bytes = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(1):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)

    def stop(self) -> float:
        """GiB."""
        self._stop.set()
        self._thread.join()
        return self.bytes / 2**30


def main() -> None:
    """Measures, and prints a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--shard", type=int, default=200_000)
    parser.add_argument("--kind", choices=("auto", "exact", "hnsw", "ivfpq"), default="auto")
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        configure()
        from codemmlu.cluster import session  # after configure

        session.join()
        index = RunDir(scratch)
        blocks = write_backlog(index, arguments.vectors)
        kind = kind_for(arguments.kind, arguments.vectors)
        peak, began = Peak(), time.monotonic()
        shards, recall = sharding.make_shards(index, blocks, kind, arguments.shard)
        seconds, memory = time.monotonic() - began, peak.stop()
        contents = [np.fromfile(Path(scratch, shard.index), dtype=np.uint8) for shard in shards]
        opened = [
            faiss_index.open_index(content) for content in contents
        ]  # over the buffers, which stay alive beside it
        queries = sharding.sample(index.address, [blocks[0][0]], 500)
        began = time.monotonic()
        for one in opened:
            faiss_index.search(one, queries, 10)
        rate = len(queries) / (time.monotonic() - began)
        size = sum(Path(scratch, shard.index).stat().st_size for shard in shards)
    result = {
        "kind": kind,
        "vectors": arguments.vectors,
        "shards": len(shards),
        "index_mb": size / 1e6,
        "seconds": seconds,
        "peak_gib": memory,
        "recall_at_10": recall,
        "searches_per_second": rate,
    }
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    for name, value in result.items():
        print(f"{name:20s} {value:,.3f}" if isinstance(value, float) else f"{name:20s} {value}")


if __name__ == "__main__":
    main()
