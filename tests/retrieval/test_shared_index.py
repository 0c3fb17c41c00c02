"""How a finished index reaches actors: which files it refuses, what it sends, and how it is opened."""

from pathlib import Path

import pytest

from codemmlu.retrieval import shared_index

# isort: split
import ray

from codemmlu.errors import UserError
from codemmlu.retrieval.embedder import Embedder, Encoder
from codemmlu.retrieval.hashing import HashingEncoder
from codemmlu.retrieval.index_store import sha256_of
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from tests.support.example_indexes import EXAMPLES, RULE, Made, library, nearest_of, opened, publish_index
from tests.support.rows import question

pytestmark = pytest.mark.usefixtures("ray_cluster")

DIVERSE = SelectionPolicy("task_id", "keep", -1.0, 0.6)


@pytest.mark.parametrize("name", ["index.faiss", "examples.parquet"])
@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_a_file_other_than_the_one_that_was_made_is_refused(whole: Made, tmp_path: Path, name: str, how: str) -> None:
    content = (whole.folder / "00000" / name).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    broken = content[:middle] if how == "cut" else flipped
    for file in ("index.faiss", "examples.parquet"):
        kept = (whole.folder / "00000" / file).read_bytes()
        RunDir(str(tmp_path)).write(f"00000/{file}", broken if file == name else kept)
    with pytest.raises(UserError) as error:
        publish_index(tmp_path, whole.manifest)
    said = str(error.value)
    assert "\n" not in said
    assert f"00000/{name} has sha256 {sha256_of(broken)[:16]}" in said
    assert f"its manifest says {sha256_of(content)[:16]}" in said


def test_weights_of_another_version_are_refused(whole: Made) -> None:
    assert whole.manifest.weights is not None
    other = whole.manifest.weights.model_copy(update={"features": ("length",)})
    with pytest.raises(UserError, match="was made by another version; delete it and run again"):
        publish_index(whole.folder, whole.manifest.model_copy(update={"weights": other}))


def test_an_index_too_large_for_the_object_store_is_mapped(whole: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    small = [{"Alive": True, "Resources": {"object_store_memory": 1000.0}}]
    monkeypatch.setattr(ray, "nodes", lambda: small)
    shared = publish_index(whole.folder, whole.manifest)
    assert shared.shards[0][0] == str(whole.folder / "00000" / "index.faiss")
    assert nearest_of(shared_index.load(shared, threads=1)) == nearest_of(library(EXAMPLES))


@pytest.mark.parametrize(("rule", "sent"), [(RULE, False), (DIVERSE, True)])
def test_vectors_of_examples_are_sent_only_for_diversity(whole: Made, rule: SelectionPolicy, sent: bool) -> None:
    ((_, examples),) = publish_index(whole.folder, whole.manifest, rule).shards
    columns = ray.get(examples).column_names
    assert ("vector" in columns) == sent
    assert "choice_vectors" in columns


def test_diversity_reads_the_stored_vectors(whole: Made) -> None:
    assert nearest_of(opened(whole.folder, whole.manifest, DIVERSE)) == nearest_of(library(EXAMPLES, diversity=0.6))
    assert nearest_of(library(EXAMPLES, diversity=0.6)) != nearest_of(library(EXAMPLES))


def test_an_actor_opens_its_own_embedder(whole: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside an engine it takes one core, and the CPU whatever the recipe says."""
    asked: list[Embedder] = []

    def opens(embedder: Embedder) -> Encoder:
        asked.append(embedder)
        return HashingEncoder()

    monkeypatch.setattr(shared_index, "open_encoder", opens)
    shared = publish_index(whole.folder, whole.manifest)
    shared_index.load(shared, threads=1)
    shared_index.load(shared, threads=3, device="cuda")
    assert [(one.source, one.threads, one.device) for one in asked] == [("hashing", 1, "cpu"), ("hashing", 3, "cuda")]


def test_the_nearest_come_as_task_ids_as_the_rule_allows(whole: Made) -> None:
    example = EXAMPLES[7]
    asked = [question("q", question=example.question), question(example.task_id, question=example.question)]
    other, itself = shared_index.nearest(publish_index(whole.folder, whole.manifest), asked, 3)
    assert other[0] == example.task_id
    assert example.task_id not in itself
    assert itself[:2] == other[1:]
    same = SelectionPolicy("same", "keep", -1.0, 0.0)
    (without, _) = shared_index.nearest(publish_index(whole.folder, whole.manifest, same), asked, 3)
    assert without == itself
