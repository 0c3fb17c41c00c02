"""FAISS: the only module that knows it. Indexes over unit vectors by inner product, which is then the cosine.

exact    every vector is compared (IndexFlatIP)
hnsw     a graph over the vectors: near-exact, in a fraction of the time, at a little more memory
ivfpq    vectors as product-quantised codes in inverted lists: a sixteenth of the memory, approximate similarities
"""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from codemmlu.errors import UserError

Vectors = npt.NDArray[np.float32]

_NEIGHBOURS, _CONSTRUCTION, _SEARCH = 32, 100, 128  # HNSW: links of a node, and the widths of its searches
_threads = 0  # of a search; 0: FAISS's own choice
_PROBES = 32  # IVF: lists that are searched
TRAINING = 100_000  # IVF-PQ: vectors that its lists and codes are learned from


def train(sample: Vectors) -> bytes:
    """An empty IVF-PQ index with its lists and codes learned, shape of sample (n, dimensions); shards share it."""
    dimensions = sample.shape[1]
    lists = int(min(4096, 4 * len(sample) ** 0.5, len(sample) / 39))
    codes = next(m for m in range(max(1, dimensions // 4), 0, -1) if dimensions % m == 0)
    # np: codes are not also ordered for polysemous search, which nothing here does and which takes seconds a code.
    index = faiss.index_factory(dimensions, f"IVF{lists},PQ{codes}x8np", faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    return _bytes(index)


def build(kind: str, vectors: Vectors, trained: bytes | None = None) -> bytes:
    """A FAISS file over vectors of shape (n, dimensions)."""
    dimensions = vectors.shape[1]
    index: Any
    if kind == "exact":
        index = faiss.IndexFlatIP(dimensions)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dimensions, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _CONSTRUCTION
    elif trained is not None:
        index = faiss.deserialize_index(np.frombuffer(trained, dtype=np.uint8))
    else:
        raise ValueError("an ivfpq index is trained before it is built")
    index.add(vectors)
    return _bytes(index)


def open_index(content: npt.NDArray[np.uint8]) -> Any:
    """A FAISS index over a buffer, without copying it where FAISS can; the index keeps the buffer alive.

    Raises UserError for bytes that are no FAISS file.
    """
    reader = faiss.ZeroCopyIOReader(  # type: ignore[attr-defined]  # FAISS's stubs leave it out
        faiss.swig_ptr(content), content.size
    )
    try:
        index = faiss.read_index(reader)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"examples.index: its FAISS file is broken ({first[:200]}); delete the index and run again"
        ) from None
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = _SEARCH
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = _PROBES
    index.referenced_objects = [content]  # type: ignore[attr-defined]  # as FAISS keeps what an index points into
    return index


def search(index: Any, queries: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Cosines and row numbers of the k nearest, each of shape (n_queries, k), nearest first; row -1: no more there."""
    if _threads:
        faiss.omp_set_num_threads(_threads)  # OpenMP keeps it for each thread that calls
    similarities, rows = index.search(queries, k)
    return similarities, rows


def exact_rows(queries: Vectors, vectors: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """As `search`, by comparing with all of `vectors`: what approximate kinds are measured against."""
    similarities, rows = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    return similarities, rows


def use_threads(number: int) -> None:
    """How many cores this process's searches take: beside an engine, one."""
    global _threads
    _threads = number


def _bytes(index: Any) -> bytes:
    content: bytes = faiss.serialize_index(index).tobytes()
    return content
