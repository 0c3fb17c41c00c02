"""The files of an index: which examples a shard gets, how recall is counted, and what the weights are fitted on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codemmlu.cluster import tasks
from codemmlu.dataset.dedup import content_key
from codemmlu.retrieval import faiss_index, sharding
from codemmlu.retrieval.embedder import Encoder
from codemmlu.retrieval.hashing import DIMENSIONS, HashingEncoder
from codemmlu.retrieval.index_store import IndexSpec, Shard, TransferWeights, sha256_of
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question
from tests.support.embedders import HASHED, Placed
from tests.support.example_indexes import EXAMPLES, SETTINGS, packed, sentence, solved

PLAN = IndexSpec(SETTINGS, HASHED, "exact", "f", 0, frozenset(), "")


@pytest.fixture
def index(tmp_path: Path) -> RunDir:
    """An empty index directory."""
    return RunDir(str(tmp_path / "index"))


def blocks_of(
    index: RunDir, counts: Sequence[int], examples: Sequence[Question] = EXAMPLES, encoder: Encoder | None = None
) -> list[tuple[str, int]]:
    """Write embedded examples as blocks of so many each."""
    written, start = [], 0
    for number, count in enumerate(counts):
        _, table = packed(examples[start : start + count], SETTINGS, encoder or HashingEncoder())
        index.write_table(f"blocks/{number}", table)
        written.append((f"blocks/{number}", count))
        start += count
    return written


def names_in(index: RunDir, shard: Shard) -> list[str]:
    """Read the task_ids of a shard's examples."""
    return [str(name) for name in index.read_table(shard.examples)["task_id"].to_pylist()]


# --- which examples a shard gets


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("most", "counts"),
    [
        (100, [35]),
        (35, [35]),
        (34, [30, 5]),
        (25, [20, 15]),
        (10, [10, 10, 10, 5]),
        (3, [10, 10, 10, 5]),  # a block is never torn apart
    ],
)
def test_shards_are_filled_with_whole_blocks_in_order(index: RunDir, most: int, counts: list[int]) -> None:
    shards, recall = sharding.make_shards(index, blocks_of(index, [10, 10, 10, 5]), "exact", most)
    assert [shard.count for shard in shards] == counts
    assert [name for shard in shards for name in names_in(index, shard)] == [one.task_id for one in EXAMPLES[:35]]
    assert recall is None


@pytest.mark.usefixtures("ray_cluster")
def test_a_shard_is_searched_by_the_rows_of_its_examples(index: RunDir) -> None:
    shards, _ = sharding.make_shards(index, blocks_of(index, [10, 10]), "exact", 10)
    queries = HashingEncoder().encode([one.question for one in EXAMPLES[:20]])
    for number, shard in enumerate(shards):
        content = index.read(shard.index)
        assert sha256_of(content) == shard.index_sha256
        assert sha256_of(index.read(shard.examples)) == shard.examples_sha256
        opened = faiss_index.open_index(np.frombuffer(content, dtype=np.uint8))
        _, rows = faiss_index.search(opened, queries[10 * number : 10 * number + 10], 1)
        assert rows.ravel().tolist() == list(range(10))


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(("kind", "least", "most"), [("hnsw", 0.99, 1), ("ivfpq", 0.3, 0.95)])
def test_what_an_approximate_kind_misses_is_measured(index: RunDir, kind: str, least: float, most: float) -> None:
    """No two of these texts are equally near to a third, so that a graph finds the ten nearest and codes only some."""
    places = {f"text {n}": np.random.default_rng(n).normal(size=4) for n in range(600)}
    examples = [solved(f"e{n}", text) for n, text in enumerate(places)]
    encoder = Placed({text: place.tolist() for text, place in places.items()})
    shards, recall = sharding.make_shards(index, blocks_of(index, [300, 300], examples, encoder), kind, 300)
    assert recall is not None
    assert least <= recall <= most
    first, second = (faiss_index.open_index(np.frombuffer(index.read(shard.index), dtype=np.uint8)) for shard in shards)
    assert first.ntotal == second.ntotal == 300
    if kind == "ivfpq":
        lists, others = (one.quantizer.reconstruct_n(0, one.nlist) for one in (first, second))
        np.testing.assert_array_equal(lists, others, err_msg="shards share their lists")


# --- how recall is counted


def hits(similarities: Sequence[float], rows: Sequence[int]) -> sharding.Hits:
    """What one query found in one shard."""
    return np.array([similarities], dtype=np.float32), np.array([rows], dtype=np.int64)


NEAR = [1 - n / 100 for n in range(10)]
FAR = [0.5 - n / 100 for n in range(10)]
ONE, TWO, NONE = range(10), range(10, 20), range(90, 100)


def test_recall_is_the_share_of_the_exact_ten_that_is_found() -> None:
    found = hits(NEAR, [*range(7), 90, 91, 92])
    assert sharding.recall_at_10([(hits(NEAR, ONE), found)]) == pytest.approx(0.7)
    assert sharding.recall_at_10([(hits(NEAR, ONE), hits(NEAR, ONE[::-1]))]) == 1, "in whatever order"


def test_recall_counts_the_ten_nearest_of_all_shards() -> None:
    first = hits(NEAR, ONE)
    nothing_near = (hits(FAR, TWO), hits(FAR, NONE))  # of its ten nearest none is among the ten nearest of all
    assert sharding.recall_at_10([(first, first), nothing_near]) == 1
    assert sharding.recall_at_10([nothing_near, (first, first)]) == 1
    missed = hits([*NEAR[:4], *[-1.0] * 6], [*ONE[:4], *[-1] * 6])
    assert sharding.recall_at_10([(first, missed), nothing_near]) == pytest.approx(0.4)


@pytest.mark.usefixtures("ray_cluster")
def test_recall_is_measured_on_the_first_examples(index: RunDir) -> None:
    blocks = [name for name, _ in blocks_of(index, [10, 10])]
    queries = tasks.call(sharding.sample, index.address, blocks, 15)
    expected = HashingEncoder().encode([one.question for one in EXAMPLES[:15]])
    np.testing.assert_allclose(queries, expected, atol=1e-3)


# --- what the weights are fitted on


def stored(index: RunDir, examples: Sequence[Question]) -> Shard:
    """Write a shard of these examples."""
    rows, table = packed(examples, SETTINGS, HashingEncoder())
    index.write("00000/index", faiss_index.build("exact", rows))
    index.write_table("00000/examples", table)
    names = {"index": "00000/index", "examples": "00000/examples"}
    return Shard(count=len(examples), index_sha256="", examples_sha256="", **names)


def fitted(index: RunDir, examples: Sequence[Question], **plan: Any) -> TransferWeights | None:
    """Fit weights on a shard of these examples."""
    dimensions, weights = sharding.fit(index.address, stored(index, examples), replace(PLAN, **plan))
    assert dimensions == DIMENSIONS
    return weights


def test_nothing_is_fitted_on_an_example_that_is_asked(index: RunDir) -> None:
    asked = frozenset(content_key(example) for example in EXAMPLES[:30])
    few = fitted(index, EXAMPLES[:40], asked=asked, left_out="some")
    assert few is not None
    assert (few.fitted_on, few.left_out) == (10, "some")
    assert fitted(index, EXAMPLES[:30], asked=asked) is None, "every example is asked"


def test_weights_are_fitted_on_a_seeded_sample(index: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharding, "_FITTED", 20)
    first, again, other = (fitted(index, EXAMPLES[:60], seed=seed) for seed in (0, 0, 1))
    assert first is not None
    assert other is not None
    assert (first.fitted_on, first.seed) == (20, 0)
    assert first == again
    assert first.weights != other.weights


@pytest.mark.parametrize("more", ["", " too"])
def test_an_example_teaches_nothing_about_its_copies(index: RunDir, more: str) -> None:
    """Each stands there twice, word for word or nearly, and no others share a choice: copies would say everything."""
    long = [" ".join(sentence(100 * n + part) for part in range(10)) for n in range(60)]
    examples = [
        solved(f"e{n}", text, (sentence(n + 1000), sentence(n + 2000)), "AB"[n % 2]) for n, text in enumerate(long)
    ]
    copies = [replace(one, task_id=f"copy-{one.task_id}", question=f"{one.question}{more}") for one in examples]
    weights = fitted(index, [*examples, *copies])
    assert weights is not None
    assert weights.fitted_on == 120
    learned = dict(zip(weights.features, weights.weights, strict=True))
    for kernel in (4, 16):
        assert learned[f"right, same text, kernel {kernel}"] == pytest.approx(0, abs=1e-3)
