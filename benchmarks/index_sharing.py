"""How much memory actors add when they open one index: over the node's one copy, and with a copy in each.

    python benchmarks/index_sharing.py [--actors 4] [--vectors 250000] [--kind exact] [--json]

Synthetic unit vectors of 384 dimensions. What an actor adds is its private memory (smaps: private clean and dirty
pages) after opening the index and searching it, less that of the same actor before.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from codemmlu.cluster.environment import configure

configure()  # before ray is imported
import ray  # noqa: E402

from codemmlu.cluster import session  # noqa: E402
from codemmlu.retrieval import faiss_index  # noqa: E402

_DIMENSIONS = 384


def private_bytes() -> int:
    """This process's private memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


class Opener:
    """An actor that opens an index in one of two ways, and says what that added."""

    def __init__(self) -> None:
        faiss_index.use_threads(1)
        warm = np.eye(16, dtype=np.float32)
        faiss_index.search(faiss_index.open_index(_array(faiss_index.build("exact", warm))), warm, 3)
        self._kept: list[Any] = []

    def open(self, holder: list[Any], copied: bool) -> int:
        """Bytes of private memory that an open, searched index adds."""
        before = private_bytes()
        content = ray.get(holder[0])
        content = content.copy() if copied else content
        index = faiss_index.open_index(content)
        queries = unit_vectors(np.random.default_rng(1), 32)
        faiss_index.search(index, queries, 10)
        self._kept += [content, index]
        return private_bytes() - before


def unit_vectors(rng: np.random.Generator, count: int) -> faiss_index.Vectors:
    """Random unit vectors, shape (count, 384)."""
    drawn = rng.standard_normal((count, _DIMENSIONS), dtype=np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def _array(content: bytes) -> Any:
    return np.frombuffer(content, dtype=np.uint8)


def measure(actors: int, holder: list[Any], copied: bool) -> int:
    """What all actors together add, all of them alive at the end."""
    pool = [ray.remote(Opener).options(num_cpus=0).remote() for _ in range(actors)]
    added = ray.get([actor.open.remote(holder, copied) for actor in pool])
    for actor in pool:
        ray.kill(actor)
    return int(sum(added))


def main() -> None:
    """Measures, and prints a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--vectors", type=int, default=250_000)
    parser.add_argument("--kind", choices=("exact", "hnsw", "ivfpq"), default="exact")
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    arguments = parser.parse_args()
    session.join()
    rows = unit_vectors(np.random.default_rng(0), arguments.vectors)
    trained = faiss_index.train(rows[: faiss_index.TRAINING]) if arguments.kind == "ivfpq" else None
    content = _array(faiss_index.build(arguments.kind, rows, trained))
    holder = [ray.put(content)]
    shared = measure(arguments.actors, holder, copied=False)
    copied = measure(arguments.actors, holder, copied=True)
    result = {
        "kind": arguments.kind,
        "actors": arguments.actors,
        "index_mb": content.size / 1e6,
        "shared_mb": shared / 1e6,
        "copied_mb": copied / 1e6,
        "shared_share": shared / content.size,
        "copied_share": copied / content.size,
    }
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    print(f"{arguments.kind} index of {result['index_mb']:.0f} MB, {arguments.actors} actors", file=sys.stdout)
    for way in ("shared", "copied"):
        print(
            f"{way:7s} {result[f'{way}_mb']:8.1f} MB added, {100 * float(result[f'{way}_share']):6.1f} % of the index"
        )


if __name__ == "__main__":
    main()
