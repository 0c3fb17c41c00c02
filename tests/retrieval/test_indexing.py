"""Making an index with Ray, and opening it: on the running cluster, with the hashing embedder."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codemmlu.errors import UserError
from codemmlu.questions.twins import twin_key
from codemmlu.recipe import ExampleSettings
from codemmlu.report.terminal import Terminal
from codemmlu.retrieval.library import Library
from codemmlu.retrieval.neighbours import Rule
from codemmlu.retrieval.store import MANIFEST, Manifest, Plan, read_manifest, sha256_of
from codemmlu.rows import Question
from codemmlu.run_dir import RunDir
from tests.retrieval.encoders import BROKEN, DIMENSIONS, HASHED, HashingEncoder, opens
from tests.retrieval.shelves import RULE, library, solved
from tests.samples import question


@pytest.fixture(scope="module", autouse=True)
def _joined(running_ray: None) -> Iterator[None]:
    """This process as a driver of the running cluster.

    codemmlu.cluster looks for one when it is imported, and says what it found in the environment: so it is imported
    now, and what it said is taken back for the jobs that later tests start.
    """
    before = dict(os.environ)
    from codemmlu import cluster  # in this order: see there

    cluster.join()
    import ray

    yield
    ray.shutdown()
    os.environ.clear()
    os.environ.update(before)


def sentence(seed: int) -> str:
    """Five words out of fifty."""
    return " ".join(f"word{n}" for n in np.random.default_rng(seed).integers(0, 50, 5))


EXAMPLES = [
    solved(f"e{n}", sentence(n), (sentence(n + 1000), sentence(n + 2000), "neither"), "ABC"[n % 3]) for n in range(300)
]
QUESTIONS = [question(f"q{n}", question=sentence(n + 5000)) for n in range(40)]


def build(
    folder: Path,
    examples: Sequence[Question] = EXAMPLES,
    kind: str = "exact",
    asked: frozenset[str] = frozenset(),
    **settings: Any,
) -> Manifest:
    """Makes an index."""
    from codemmlu import indexing

    index = RunDir(str(folder))
    index.create()
    plan = Plan(ExampleSettings(source="x", **settings), HASHED, kind, "f", 0, asked, "left out" if asked else "")
    return indexing.build(Terminal(), index, plan, examples, opens)


def opened(folder: Path, manifest: Manifest, rule: Rule = RULE) -> Library:
    """An index as an actor opens it."""
    from codemmlu import lending

    shared = lending.share(RunDir(str(folder)), manifest, HASHED, ExampleSettings(source="x"), rule, opens)
    return lending.open_shared(shared, threads=1)


def told(shelf: Library) -> list[list[tuple[str, float]]]:
    """The five nearest of every question, with their similarities."""
    return [[(s.example.task_id, round(s.similarity, 3)) for s in one.solved] for one in shelf.look_up(QUESTIONS, 5)]


@dataclass(frozen=True)
class Made:
    """An index that stands."""

    folder: Path
    manifest: Manifest


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All examples in one exact index."""
    folder = tmp_path_factory.mktemp("whole")
    return Made(folder, build(folder))


def test_a_manifest_says_what_the_index_is_of(whole: Made) -> None:
    manifest, index = whole.manifest, RunDir(str(whole.folder))
    assert read_manifest(index) == manifest
    assert (manifest.count, manifest.dimensions, manifest.kind, manifest.metric) == (300, DIMENSIONS, "exact", "cosine")
    assert (manifest.embedder, manifest.embedder_fingerprint, manifest.text) == ("hashed", "hashed-1", "question")
    assert (manifest.fingerprint, manifest.recall_at_10) == ("f", None)
    assert manifest.weights is not None
    assert manifest.weights.fitted_on == 300
    assert manifest.examples_per_second > 0
    (shard,) = manifest.shards
    assert shard.count == 300
    assert sha256_of(index.read(shard.index)) == shard.index_sha256
    assert sha256_of(index.read(shard.examples)) == shard.examples_sha256
    assert not (whole.folder / "building").exists()


def test_what_is_found_is_what_comparing_with_all_finds(whole: Made) -> None:
    found = told(opened(whole.folder, whole.manifest))
    assert found == told(library(EXAMPLES))
    rows = HashingEncoder().encode([example.question for example in EXAMPLES])
    best = HashingEncoder().encode([one.question for one in QUESTIONS]) @ rows.T
    assert [row[0][1] for row in found] == pytest.approx(list(best.max(axis=1)), abs=2e-3)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_shards_find_together_what_one_index_finds(whole: Made, tmp_path: Path, kind: str) -> None:
    manifest = build(tmp_path, kind=kind, shard=128)
    assert [shard.count for shard in manifest.shards] == [128, 128, 44]
    assert told(opened(tmp_path, manifest)) == told(opened(whole.folder, whole.manifest))
    if kind == "exact":
        assert manifest.recall_at_10 is None
    else:
        assert manifest.recall_at_10 is not None
        assert 0.95 <= manifest.recall_at_10 <= 1, "of equally near ones either may be found"
    # each example is answered by the others of its shard: the weights are learned from the first
    assert manifest.weights is not None
    assert manifest.weights.fitted_on == 128


def test_the_same_examples_make_the_same_index_over_what_an_earlier_attempt_left(whole: Made, tmp_path: Path) -> None:
    RunDir(str(tmp_path)).write("building/vectors/000000.parquet", b"half")
    RunDir(str(tmp_path)).write("00000/index.faiss", b"half")
    again = build(tmp_path)
    assert again.shards == whole.manifest.shards
    assert again.weights == whole.manifest.weights


def test_one_example_is_an_index(tmp_path: Path) -> None:
    manifest = build(tmp_path, EXAMPLES[:1])
    (found, *_) = opened(tmp_path, manifest).look_up(QUESTIONS, 64)
    assert [one.example for one in found.solved] == EXAMPLES[:1]
    assert manifest.weights is not None
    assert np.isfinite(manifest.weights.weights).all()


@pytest.mark.parametrize("name", ["index.faiss", "examples.parquet"])
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_a_file_that_is_not_the_one_that_was_made_is_refused(whole: Made, tmp_path: Path, name: str, how: str) -> None:
    content = (whole.folder / "00000" / name).read_bytes()
    middle = len(content) // 2
    broken = (
        content[:middle] if how == "cut" else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    )
    for file in ("index.faiss", "examples.parquet"):
        kept = (whole.folder / "00000" / file).read_bytes()
        RunDir(str(tmp_path)).write(f"00000/{file}", broken if file == name else kept)
    with pytest.raises(UserError) as error:
        opened(tmp_path, whole.manifest)
    said = str(error.value)
    assert "\n" not in said
    assert f"00000/{name} has sha256 {sha256_of(broken)[:16]}" in said
    assert f"its manifest says {sha256_of(content)[:16]}" in said


def test_an_index_that_the_object_store_does_not_hold_is_mapped_from_its_file(
    whole: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    from codemmlu import lending

    small = [{"Alive": True, "Resources": {"object_store_memory": 1000.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: small)
    index = RunDir(str(whole.folder))
    shared = lending.share(index, whole.manifest, HASHED, ExampleSettings(source="x"), RULE, opens)
    assert shared.shards[0][0] == str(whole.folder / "00000" / "index.faiss")
    assert told(lending.open_shared(shared, threads=1)) == told(opened(whole.folder, whole.manifest))


def test_an_example_teaches_nothing_about_its_own_copies(tmp_path: Path) -> None:
    """Each stands there twice, and only copies have a choice in common: were they seen, those would say everything."""
    unlike = [replace(example, choices=example.choices[:2], answer="AB"[n % 2]) for n, example in enumerate(EXAMPLES)]
    copies = [replace(example, task_id=f"copy-{example.task_id}") for example in unlike[:60]]
    weights = build(tmp_path, [*unlike[:60], *copies]).weights
    assert weights is not None
    learned = dict(zip(weights.features, weights.weights, strict=True))
    assert weights.fitted_on == 120
    for kernel in (4, 16):
        assert learned[f"right, same text, kernel {kernel}"] == pytest.approx(0, abs=1e-3)


def test_an_index_over_a_larger_one_leaves_nothing_of_it(whole: Made, tmp_path: Path) -> None:
    build(tmp_path, shard=128)
    manifest = build(tmp_path, EXAMPLES[:40])
    assert manifest == read_manifest(RunDir(str(tmp_path)))
    assert [path.name for path in sorted(tmp_path.glob("0*"))] == ["00000"]
    assert len(told(opened(tmp_path, manifest))) == len(QUESTIONS)


def test_weights_of_another_version_are_refused(whole: Made) -> None:
    assert whole.manifest.weights is not None
    other = whole.manifest.weights.model_copy(update={"features": ("length",)})
    with pytest.raises(UserError, match="was made by another version; delete it and run again"):
        opened(whole.folder, whole.manifest.model_copy(update={"weights": other}))


def test_diversity_reads_the_stored_vectors(whole: Made) -> None:
    rule = Rule("task_id", "keep", -1.0, 0.6)
    assert told(opened(whole.folder, whole.manifest, rule)) == told(library(EXAMPLES, diversity=0.6))
    assert told(library(EXAMPLES, diversity=0.6)) != told(library(EXAMPLES))


def test_a_manifest_is_the_last_thing_that_is_written(whole: Made) -> None:
    written = (whole.folder / MANIFEST).stat().st_mtime_ns
    assert all(path.stat().st_mtime_ns <= written for path in whole.folder.glob("0*/*"))


def test_nothing_is_fitted_on_an_example_that_is_asked(tmp_path: Path, whole: Made) -> None:
    asked = frozenset(twin_key(example) for example in EXAMPLES[:100])
    weights = build(tmp_path, asked=asked).weights
    assert weights is not None
    assert (weights.fitted_on, weights.left_out) == (200, "left out")
    assert whole.manifest.weights is not None
    assert weights.weights != whole.manifest.weights.weights
    everything = frozenset(twin_key(example) for example in EXAMPLES)
    assert build(tmp_path, asked=everything).weights is None


def test_an_example_whose_vector_is_not_finite_stops_the_making(whole: Made, tmp_path: Path) -> None:
    """The last test here: Ray takes its time to give back what a pipeline that failed had."""
    shutil.copytree(whole.folder, tmp_path, dirs_exist_ok=True)
    with pytest.raises(UserError) as error:
        build(tmp_path, [*EXAMPLES[:3], solved("e9", f"some {BROKEN} text")])
    said = str(error.value)
    assert "\n" not in said
    assert said == f"examples.embedder: its vector of 'some {BROKEN} text' is not finite; use another"
    assert read_manifest(RunDir(str(tmp_path))) is None, "neither a half-made index nor the one before stands"
