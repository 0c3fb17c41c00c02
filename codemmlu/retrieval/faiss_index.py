"""FAISS indexes over unit vectors by inner product, which is then the cosine.

No other module imports FAISS.

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

_NEIGHBOURS, _CONSTRUCTION, _SEARCH = 32, 100, 128  # HNSW: links of a node, search widths of building and of searching
_threads = 0  # threads of a search; 0: FAISS's own choice
_PROBES = 32  # IVF: lists that are searched
TRAINING = 100_000  # IVF-PQ: the most vectors that lists and codes are learned from


def train(sample: Vectors) -> bytes:
    """Learn the lists and codes of an IVF-PQ index, which all shards share.

    Args:
        sample: Vectors to learn from, shape (n, dimensions).

    Returns:
        The FAISS file of the trained index, which holds no vectors yet.
    """
    dimensions = sample.shape[1]
    lists = int(min(4096, 4 * len(sample) ** 0.5, len(sample) / 39))
    codes = next(m for m in range(max(1, dimensions // 4), 0, -1) if dimensions % m == 0)
    # "np" leaves out ordering the codes for polysemous search, which is not used and which takes seconds per code.
    index = faiss.index_factory(dimensions, f"IVF{lists},PQ{codes}x8np", faiss.METRIC_INNER_PRODUCT)
    index.train(sample)
    return _bytes(index)


def build(kind: str, vectors: Vectors, trained: bytes | None = None) -> bytes:
    """Build an index over vectors.

    Args:
        kind: `exact`, `hnsw` or `ivfpq`.
        vectors: Unit vectors, shape (n, dimensions).
        trained: The file that `train` returned; ivfpq needs it.

    Returns:
        The content of a FAISS file.

    Raises:
        ValueError: An ivfpq index comes without `trained`.
    """
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
    """Open a FAISS file in memory, without a copy where FAISS can do without.

    Returns:
        The index, which keeps the buffer alive.

    Raises:
        UserError: The bytes are no FAISS file.
    """
    reader = faiss.ZeroCopyIOReader(  # type: ignore[attr-defined]  # FAISS's stubs leave it out
        faiss.swig_ptr(content), content.size
    )
    try:
        index = faiss.read_index(reader)
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        raise UserError(
            f"its FAISS file is broken ({first[:200]}); delete the index and run again", key="examples.index"
        ) from None
    if isinstance(index, faiss.IndexHNSW):
        index.hnsw.efSearch = _SEARCH
    if isinstance(index, faiss.IndexIVF):
        index.nprobe = _PROBES
    index.referenced_objects = [content]  # type: ignore[attr-defined]  # FAISS's own way to keep a buffer alive
    return index


def search(index: Any, queries: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Find the k nearest vectors of each query.

    Returns:
        Cosines and row numbers, each of shape (n_queries, k), nearest first; the row is -1 where no vector is left.
    """
    if _threads:
        faiss.omp_set_num_threads(_threads)  # OpenMP keeps the number separately for each calling thread
    similarities, rows = index.search(queries, k)
    return similarities, rows


def exact_rows(queries: Vectors, vectors: Vectors, k: int) -> tuple[Vectors, npt.NDArray[np.int64]]:
    """Search as `search` does, by comparing all `vectors`: the reference for the recall of other kinds."""
    similarities, rows = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    return similarities, rows


def use_threads(number: int) -> None:
    """Set how many cores the searches of this process take: one beside an engine."""
    global _threads
    _threads = number


def _bytes(index: Any) -> bytes:
    content: bytes = faiss.serialize_index(index).tobytes()
    return content
