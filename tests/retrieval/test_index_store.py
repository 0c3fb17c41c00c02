"""The index directory: a manifest that does not fit, and files that are not the ones it names."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings, Recipe
from codemmlu.retrieval import faiss_index
from codemmlu.retrieval.hashing import DIMENSIONS, HashingEncoder
from codemmlu.retrieval.index import _own_manifest, place_of
from codemmlu.retrieval.index_store import (
    INDEX,
    MANIFEST,
    VERSION,
    IndexManifest,
    Shard,
    check_embedder,
    fingerprint,
    kind_for,
    read_checked,
    read_manifest,
    sha256_of,
)
from codemmlu.run_dir import RunDir
from tests.support.embedders import HASHED
from tests.support.example_indexes import LIKE_RIGHT, SETTINGS

SAMPLE = {"source": "sample"}
CONTENT = faiss_index.build("exact", HashingEncoder().encode(["one", "two", "three"]))


@pytest.fixture
def index(tmp_path: Path) -> RunDir:
    """An index of three vectors."""
    made = RunDir(str(tmp_path / "index"))
    made.write(f"00000/{INDEX}", CONTENT)
    shard = Shard(
        count=3, index=f"00000/{INDEX}", index_sha256=sha256_of(CONTENT), examples="e.parquet", examples_sha256="0"
    )
    manifest = IndexManifest(
        version=VERSION,
        fingerprint="f",
        embedder=HASHED.source,
        revision=None,
        embedder_fingerprint=HASHED.fingerprint,
        text="question",
        metric="cosine",
        kind="exact",
        count=3,
        dimensions=DIMENSIONS,
        shards=(shard,),
        weights=LIKE_RIGHT,
        recall_at_10=None,
        examples_per_second=1.0,
    )
    made.write(MANIFEST, manifest.model_dump_json().encode())
    return made


def manifest_of(index: RunDir) -> IndexManifest:
    manifest = read_manifest(index)
    assert manifest is not None
    return manifest


def fault(error: "pytest.ExceptionInfo[UserError]") -> str:
    """The text of the error: always one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_index_that_was_never_finished_is_none(tmp_path: Path) -> None:
    assert read_manifest(RunDir(str(tmp_path / "nowhere"))) is None
    half = RunDir(str(tmp_path))
    half.write(f"00000/{INDEX}", CONTENT)
    assert read_manifest(half) is None


def test_a_manifest_comes_back_as_it_was(index: RunDir) -> None:
    manifest = manifest_of(index)
    assert manifest.weights == LIKE_RIGHT
    assert IndexManifest.model_validate_json(manifest.model_dump_json()) == manifest


def changed(**values: Any) -> Any:
    """A change to a manifest's JSON; None takes a value away."""

    def change(text: bytes) -> bytes:
        value = json.loads(text) | values
        return json.dumps({name: one for name, one in value.items() if one is not None}).encode()

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"",
        lambda text: b"[]",
        lambda text: b"null",
        lambda text: text[: len(text) // 2],
        lambda text: b"\xff" + text,
        changed(count="many"),
        changed(shards=None),
        changed(weights={"scales": [1.0]}),
        changed(more=1),
    ],
)
def test_a_broken_manifest_is_said_with_its_place(index: RunDir, change: Any) -> None:
    index.write(MANIFEST, change(index.read(MANIFEST)))
    with pytest.raises(UserError) as error:
        read_manifest(index)
    said = fault(error)
    assert said.startswith(f"examples.index: {index.shown}/manifest.json is broken (")
    assert said.endswith("delete it and run again")


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_a_manifest_of_another_version_is_refused(index: RunDir, version: Any) -> None:
    index.write(MANIFEST, changed(version=version)(index.read(MANIFEST)))
    with pytest.raises(UserError) as error:
        read_manifest(index)
    assert f"{index.shown} has version {version}, this is {VERSION}; delete it" in fault(error)


def test_another_embedder_is_refused_and_both_are_named(index: RunDir) -> None:
    manifest = manifest_of(index)
    check_embedder(manifest, SETTINGS, HASHED, index)
    other = replace(HASHED, source="some/model", revision="abc", fingerprint="x" * 32)
    with pytest.raises(UserError) as error:
        check_embedder(manifest, SETTINGS, other, index)
    said = fault(error)
    assert "was made with hashing (hashing/1), the recipe has some/model@abc (xxxxxxxxxxxx)" in said
    assert said.startswith(f"examples.embedder: {index.shown} ")


def test_the_same_embedder_may_lie_elsewhere(index: RunDir) -> None:
    check_embedder(manifest_of(index), SETTINGS, replace(HASHED, source="/copy/of/it"), index)


def test_another_text_is_refused_and_both_are_named(index: RunDir) -> None:
    with pytest.raises(UserError) as error:
        check_embedder(manifest_of(index), ExampleSettings(text="question+choices"), HASHED, index)
    said = fault(error)
    assert said == f"examples.text: {index.shown} was made of 'question', the recipe has 'question+choices'"


def test_a_file_is_read_when_it_is_the_one_the_manifest_names(index: RunDir) -> None:
    (shard,) = manifest_of(index).shards
    assert read_checked(index, shard.index, shard.index_sha256) == CONTENT


@pytest.mark.parametrize(
    "other", [CONTENT[:-1], CONTENT[: len(CONTENT) // 2], b"", CONTENT[:60] + b"\x7f" + CONTENT[61:], CONTENT + b"\0"]
)
def test_a_changed_or_cut_file_is_refused_with_both_hashes(index: RunDir, other: bytes) -> None:
    (shard,) = manifest_of(index).shards
    index.write(shard.index, other)
    with pytest.raises(UserError) as error:
        read_checked(index, shard.index, shard.index_sha256)
    said = fault(error)
    assert f"{index.shown}/00000/index.faiss has sha256 {sha256_of(other)[:16]}" in said
    assert f"its manifest says {sha256_of(CONTENT)[:16]}" in said


def test_a_file_that_is_not_there_is_said_by_name(index: RunDir) -> None:
    with pytest.raises(UserError) as error:
        read_checked(index, "00001/index.faiss", "0")
    assert f"{index.shown}/00001/index.faiss is missing; copy the index again" in fault(error)


@pytest.mark.parametrize("content", [b"", b"no index", b"\0" * 4096, CONTENT[:100], CONTENT[:-4]])
def test_bytes_that_are_no_faiss_file_are_an_error(content: bytes) -> None:
    with pytest.raises(UserError) as error:
        faiss_index.open_index(np.frombuffer(content, dtype=np.uint8))
    said = fault(error)
    assert said.startswith("examples.index: its FAISS file is broken (")
    assert said.endswith("delete the index and run again")


# --- what makes an index another index

BASE = fingerprint(SETTINGS, HASHED, "exact", "content", 0)


@pytest.mark.parametrize(
    ("settings", "embedder", "kind", "content", "seed"),
    [
        ({"text": "question+choices"}, HASHED.fingerprint, "exact", "content", 0),
        ({}, "hashing/2", "exact", "content", 0),
        ({}, HASHED.fingerprint, "hnsw", "content", 0),
        ({}, HASHED.fingerprint, "exact", "other", 0),
        ({}, HASHED.fingerprint, "exact", "content", 1),
    ],
)
def test_what_changes_the_index_changes_its_fingerprint(
    settings: dict[str, str], embedder: str, kind: str, content: str, seed: int
) -> None:
    made = replace(HASHED, fingerprint=embedder)
    assert fingerprint(ExampleSettings.model_validate(settings), made, kind, content, seed) != BASE


def test_what_does_not_change_the_index_leaves_its_fingerprint() -> None:
    asked = {"exclude": "same", "min_similarity": 0.5, "diversity": 0.5, "tokens": 10, "near_duplicates": "drop"}
    moved = {"source": "elsewhere.csv", "index": "elsewhere", "embedder": {"batch_size": 1}}
    other = ExampleSettings.model_validate({**asked, **moved})
    assert fingerprint(other, replace(HASHED, batch_size=1, threads=3), "exact", "content", 0) == BASE


def test_the_size_of_shards_is_part_of_it() -> None:
    """The first shard is what the weights are fitted on."""
    few, many = ExampleSettings(shard=10), ExampleSettings(shard=20)
    for kind in ("exact", "hnsw", "ivfpq"):
        assert fingerprint(few, HASHED, kind, "c", 0) != fingerprint(many, HASHED, kind, "c", 0)


@pytest.mark.parametrize(
    ("wanted", "count", "kind"),
    [
        ("auto", 1, "exact"),
        ("auto", 49_999, "exact"),
        ("auto", 50_000, "hnsw"),
        ("auto", 999_999, "hnsw"),
        ("auto", 1_000_000, "ivfpq"),
        ("exact", 5_000_000, "exact"),
        ("hnsw", 3, "hnsw"),
        ("ivfpq", 10_000, "ivfpq"),
    ],
)
def test_the_kind_follows_the_size_unless_it_is_named(wanted: str, count: int, kind: str) -> None:
    assert kind_for(wanted, count) == kind


def test_too_few_examples_for_codes_are_said_with_both_numbers() -> None:
    with pytest.raises(UserError) as error:
        kind_for("ivfpq", 9_999)
    assert fault(error) == "examples.kind: ivfpq needs at least 10,000 examples, here are 9,999: exact"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"[" * 100_000, b"\xff", b'{"version": 1}'])
def test_a_broken_manifest_of_this_run_is_set_aside(tmp_path: Path, content: bytes) -> None:
    recipe = Recipe.model_validate({"out": str(tmp_path), "voters": {"v": {"method": "retrieve"}}, "examples": SAMPLE})
    run = place_of(recipe)
    run.write(MANIFEST, content)
    lines: list[str] = []
    inputs = SimpleNamespace(index=run, recipe=recipe, progress=SimpleNamespace(say=lines.append))
    assert _own_manifest(inputs) is None  # type: ignore[arg-type]
    assert "is broken (" in lines[0]
    assert run.read(f"{MANIFEST}.damaged") == content


@pytest.mark.parametrize("name", ["../x/index.faiss", "/etc/passwd", "", "a/../../b"])
def test_a_manifest_that_leads_outside_is_one_line(index: RunDir, name: str) -> None:
    value = json.loads(index.read(MANIFEST))
    value["shards"][0]["index"] = name
    index.write(MANIFEST, json.dumps(value).encode())
    with pytest.raises(UserError, match=r"is broken \(shards\.0\.index: "):
        read_manifest(index)
