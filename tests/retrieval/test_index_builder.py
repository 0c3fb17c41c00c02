"""Making an index with Ray: what it is of, what is fitted on it, and what an earlier attempt may have left."""

import gc
import shutil
from pathlib import Path

import numpy as np
import pytest

from codemmlu.dataset.dedup import content_key
from codemmlu.errors import UserError
from codemmlu.retrieval.hashing import DIMENSIONS, HashingEncoder
from codemmlu.retrieval.index_store import MANIFEST, read_manifest, sha256_of
from codemmlu.run_dir import RunDir
from tests.support.embedders import BROKEN, HASHED, BreakableEncoder
from tests.support.example_indexes import EXAMPLES, QUESTIONS, Made, build, library, nearest_of, opened, solved

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_manifest_says_what_the_index_is_of(whole: Made) -> None:
    manifest, index = whole.manifest, RunDir(str(whole.folder))
    assert read_manifest(index) == manifest
    assert (manifest.count, manifest.dimensions, manifest.kind, manifest.metric) == (300, DIMENSIONS, "exact", "cosine")
    assert (manifest.embedder, manifest.embedder_fingerprint) == (HASHED.source, HASHED.fingerprint)
    assert (manifest.text, manifest.fingerprint, manifest.recall_at_10) == ("question", "f", None)
    assert manifest.weights is not None
    assert manifest.weights.fitted_on == 300
    assert manifest.examples_per_second > 0
    (shard,) = manifest.shards
    assert shard.count == 300
    assert sha256_of(index.read(shard.index)) == shard.index_sha256
    assert sha256_of(index.read(shard.examples)) == shard.examples_sha256
    assert not (whole.folder / "building").exists()


def test_what_is_found_is_what_comparing_with_all_finds(whole: Made) -> None:
    found = nearest_of(opened(whole.folder, whole.manifest))
    assert found == nearest_of(library(EXAMPLES))
    rows = HashingEncoder().encode([example.question for example in EXAMPLES])
    best = HashingEncoder().encode([one.question for one in QUESTIONS]) @ rows.T
    assert [row[0][1] for row in found] == pytest.approx(list(best.max(axis=1)), abs=2e-3)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An approximate index in three shards. No test changes it."""
    folder = tmp_path_factory.mktemp("sharded")
    return Made(folder, build(folder, kind="hnsw", shard=128))


def test_shards_find_together_what_one_index_finds(whole: Made, sharded: Made) -> None:
    manifest = sharded.manifest
    assert [shard.count for shard in manifest.shards] == [128, 128, 44]
    assert nearest_of(opened(sharded.folder, manifest)) == nearest_of(opened(whole.folder, whole.manifest))
    assert manifest.recall_at_10 is not None, "measured against exact"
    assert 0.9 < manifest.recall_at_10 <= 1
    # each example is answered by the others of its shard: the weights are learned from the first
    assert manifest.weights is not None
    assert manifest.weights.fitted_on == 128


def test_what_an_earlier_attempt_left_changes_nothing(whole: Made, tmp_path: Path) -> None:
    RunDir(str(tmp_path)).write("building/vectors/000000.parquet", b"half")
    RunDir(str(tmp_path)).write("00000/index.faiss", b"half")
    again = build(tmp_path)
    assert again.shards == whole.manifest.shards
    assert again.weights == whole.manifest.weights


def test_one_example_is_an_index(tmp_path: Path) -> None:
    manifest = build(tmp_path, EXAMPLES[:1])
    (found, *_) = opened(tmp_path, manifest).retrieve(QUESTIONS, 64)
    assert [one.example for one in found.solved] == EXAMPLES[:1]
    assert manifest.weights is not None
    assert np.isfinite(manifest.weights.weights).all()


def test_an_index_over_a_larger_one_leaves_nothing_of_it(sharded: Made, tmp_path: Path) -> None:
    shutil.copytree(sharded.folder, tmp_path, dirs_exist_ok=True)
    assert len(list(tmp_path.glob("0*"))) == 3
    manifest = build(tmp_path, EXAMPLES[:40])
    assert manifest == read_manifest(RunDir(str(tmp_path)))
    assert [path.name for path in sorted(tmp_path.glob("0*"))] == ["00000"]
    assert len(nearest_of(opened(tmp_path, manifest))) == len(QUESTIONS)


def test_a_manifest_is_the_last_thing_that_is_written(whole: Made) -> None:
    written = (whole.folder / MANIFEST).stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= written for path in whole.folder.glob("0*/*"))


def test_nothing_is_fitted_on_an_example_that_is_asked(tmp_path: Path, whole: Made) -> None:
    asked = frozenset(content_key(example) for example in EXAMPLES[:100])
    weights = build(tmp_path, asked=asked).weights
    assert weights is not None
    assert (weights.fitted_on, weights.left_out) == (200, "left out")
    assert whole.manifest.weights is not None
    assert weights.weights != whole.manifest.weights.weights


def test_an_example_whose_vector_is_not_finite_is_an_error(
    whole: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from codemmlu.retrieval import index_builder

    class Broken(index_builder.EmbedBlocks):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self._encoder = BreakableEncoder()

    monkeypatch.setattr(index_builder, "EmbedBlocks", Broken)
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    with pytest.raises(UserError) as error:
        build(tmp_path, [*EXAMPLES[:3], solved("e9", f"some {BROKEN} text")])
    said = str(error.value)
    # Only then does the pool's actor go, whose cores the next test's pool waits for: the error's traceback holds it.
    del error
    gc.collect()
    assert said == f"examples.embedder: its vector of 'some {BROKEN} text' is not finite; use another"
    assert read_manifest(RunDir(str(tmp_path))) is None, "neither a half-made index nor the one before stands"
