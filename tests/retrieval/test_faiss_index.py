"""FAISS: each kind finds what comparing with all vectors finds, and an opened index lies in the bytes it was given."""

from functools import cache
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import pytest

from codemmlu.retrieval import faiss_index

Vectors = npt.NDArray[np.float32]

DIMENSIONS = 16
# The share of the ten nearest that each kind finds. Codes tell the members of a cluster apart only roughly.
RECALL = {"exact": 1.0, "hnsw": 0.99, "ivfpq": 0.55}


@pytest.fixture(autouse=True, scope="module")
def _one_core() -> None:
    """On a machine that is busy elsewhere FAISS's threads wait for each other longer than they work."""
    faiss.omp_set_num_threads(1)


@cache
def clustered(count: int = 10_000) -> Vectors:
    """Unit vectors around 100 centres."""
    dice = np.random.default_rng(0)
    centres = dice.normal(size=(100, DIMENSIONS))
    rows = centres[dice.integers(0, 100, count)] + 0.5 * dice.normal(size=(count, DIMENSIONS))
    found: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


@cache
def codes() -> bytes:
    """Lists and codes of an IVF-PQ index, learned from all vectors."""
    return faiss_index.train(clustered())


def opened(kind: str, rows: Vectors) -> tuple[object, npt.NDArray[np.uint8]]:
    """An index, and the buffer to keep with it."""
    content = faiss_index.build(kind, rows, codes() if kind == "ivfpq" else None)
    buffer = np.frombuffer(content, dtype=np.uint8)
    return faiss_index.open_index(buffer), buffer


def recall(found: npt.NDArray[np.int64], exact: npt.NDArray[np.int64]) -> float:
    """The share of the exact rows that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, exact, strict=True)]))


@pytest.mark.parametrize("kind", RECALL)
def test_every_kind_finds_the_nearest(kind: str) -> None:
    rows, queries = clustered(), clustered()[:200]
    index, _kept = opened(kind, rows)
    similarities, found = faiss_index.search(index, queries, 10)
    near, exact = faiss_index.exact_rows(queries, rows, 10)
    assert recall(found, exact) >= RECALL[kind]
    assert (np.diff(similarities, axis=1) <= 1e-6).all(), "nearest first"
    if kind != "ivfpq":  # its similarities are those of codes
        np.testing.assert_allclose(similarities[:, 0], 1, atol=1e-5)
        assert np.abs(similarities - near).mean() < 1e-3


def test_exact_rows_are_those_of_numpy() -> None:
    rows, queries = clustered()[:500], clustered()[500:520]
    similarities, found = faiss_index.exact_rows(queries, rows, 5)
    cosines = queries @ rows.T
    np.testing.assert_array_equal(found, np.argsort(-cosines, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :5], atol=1e-5)


@pytest.mark.parametrize("kind", RECALL)
def test_shards_find_together_what_one_index_finds(kind: str) -> None:
    rows, queries = clustered(), clustered()[:200]
    parts = [(start, *opened(kind, rows[start : start + 2500])) for start in range(0, len(rows), 2500)]
    near, places = [], []
    for start, index, _kept in parts:
        similarities, found = faiss_index.search(index, queries, 10)
        near.append(similarities)
        places.append(found + start)
    best = np.argsort(-np.concatenate(near, axis=1), axis=1)[:, :10]
    together = np.take_along_axis(np.concatenate(places, axis=1), best, axis=1)
    assert recall(together, faiss_index.exact_rows(queries, rows, 10)[1]) >= RECALL[kind]


@pytest.mark.parametrize("kind", RECALL)
def test_what_is_not_there_is_row_minus_one(kind: str) -> None:
    index, _kept = opened(kind, clustered()[:3])
    _, found = faiss_index.search(index, clustered()[:2], 5)
    assert (found[:, 3:] == -1).all()
    assert set(found[:, :3].ravel()) <= {-1, 0, 1, 2}


def test_codes_are_learned_before_they_are_used() -> None:
    with pytest.raises(ValueError, match="trained before it is built"):
        faiss_index.build("ivfpq", clustered()[:10])


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_opened_index_lies_in_the_bytes_it_was_given(kind: str) -> None:
    """Actors of a node share those bytes: an index that copied them would be there once per actor."""
    rows = clustered()[:500]
    content = np.frombuffer(faiss_index.build(kind, rows), dtype=np.uint8)
    index = faiss_index.open_index(content)
    flat: Any = index if kind == "exact" else faiss.downcast_index(index.storage)
    stored = faiss.rev_swig_ptr(flat.get_xb(), rows.size)
    assert np.shares_memory(stored, content)
    np.testing.assert_array_equal(stored.reshape(rows.shape), rows)


def test_an_opened_index_keeps_its_bytes_alive() -> None:
    rows = clustered()[:500]
    index = faiss_index.open_index(np.frombuffer(faiss_index.build("exact", rows), dtype=np.uint8))
    other = [np.zeros(rows.nbytes, dtype=np.uint8) for _ in range(50)]  # what would take the place of bytes let go
    assert faiss_index.search(index, rows[:20], 1)[1].ravel().tolist() == list(range(20)), len(other)
