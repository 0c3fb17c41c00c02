"""The index of a recipe: where it is, which questions its weights leave out, and its part in an answer's key."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.errors import UserError
from codemmlu.recipe import DirectVoter, ExampleSettings, Recipe, RetrieveVoter
from codemmlu.retrieval.index import ExampleIndex, place_of
from codemmlu.retrieval.index_store import VERSION, IndexManifest
from codemmlu.retrieval.selection import SelectionPolicy
from codemmlu.run_dir import RunDir
from tests.support.embedders import HASHED
from tests.support.example_indexes import LIKE_RIGHT, RULE, SETTINGS
from tests.support.questions import questions_csv
from tests.support.rows import QUESTION, question, spec_of

MANIFEST = IndexManifest(
    version=VERSION,
    fingerprint="f",
    embedder=HASHED.source,
    revision=None,
    embedder_fingerprint=HASHED.fingerprint,
    text="question",
    metric="cosine",
    kind="exact",
    count=3,
    dimensions=256,
    shards=(),
    weights=LIKE_RIGHT,
    recall_at_10=None,
    examples_per_second=1.0,
)


@pytest.fixture
def index(tmp_path: Path) -> ExampleIndex:
    """A finished index."""
    return ExampleIndex(RunDir(str(tmp_path)), MANIFEST, HASHED, SETTINGS, RULE)


def keys(index: ExampleIndex) -> list[str]:
    """Of a question that is shown examples, and of one that retrieval answers alone."""
    voters = (DirectVoter(model="m", examples=2), RetrieveVoter(method="retrieve"))
    return [spec_of(voter, "w", index.retrieval_key).key(QUESTION) for voter in voters]


@pytest.mark.parametrize(
    "rule",
    [{"exclude": "same"}, {"near_duplicates": "drop"}, {"min_similarity": 0.1}, {"diversity": 0.1}],
)
def test_another_rule_is_another_ask(index: ExampleIndex, rule: dict[str, Any]) -> None:
    other = replace(index, policy=replace(RULE, **rule))
    assert not set(keys(other)) & set(keys(index))


def test_another_index_is_another_ask(index: ExampleIndex) -> None:
    other = replace(index, manifest=MANIFEST.model_copy(update={"fingerprint": "g"}))
    assert not set(keys(other)) & set(keys(index))


def test_another_budget_is_another_ask_of_a_model_alone(index: ExampleIndex) -> None:
    direct, retrieve = keys(replace(index, settings=ExampleSettings(source="x", tokens=99)))
    assert direct != keys(index)[0]
    assert retrieve == keys(index)[1]


def test_the_same_index_elsewhere_is_the_same_ask(index: ExampleIndex, tmp_path: Path) -> None:
    moved = replace(index, index=RunDir(str(tmp_path / "elsewhere")))
    faster = replace(moved, manifest=MANIFEST.model_copy(update={"examples_per_second": 9.0}))
    assert keys(faster) == keys(index)


def test_examples_that_are_picked_to_differ_have_no_stand_ins(index: ExampleIndex) -> None:
    assert index.retrieval_key.spare
    assert not replace(index, policy=SelectionPolicy("same", "keep", -1, 0.5)).retrieval_key.spare


# --- what a recipe says of its index


def recipe(folder: Path, **sections: dict[str, Any]) -> Recipe:
    """Return a recipe over eight questions that are examples, too."""
    source = {"source": str(questions_csv(folder / "solved.csv", 8))}
    given = {name: {**source, **sections.get(name, {})} for name in ("questions", "examples")}
    return Recipe.model_validate(
        {"out": str(folder / "run"), **given, "voters": {"v": {"method": "retrieve"}}, "models": {}}
    )


def test_an_index_is_in_the_run_unless_it_has_its_own_place(tmp_path: Path) -> None:
    assert place_of(recipe(tmp_path)).address == f"{tmp_path}/run/index"
    assert place_of(recipe(tmp_path, examples={"index": f"{tmp_path}/own"})).address == f"{tmp_path}/own"


def test_an_index_at_no_address_is_an_error_by_its_own_key(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        place_of(recipe(tmp_path, examples={"index": "ftp://host/index"}))
    assert str(error.value).startswith("examples.index: ftp://host/index is no writable address: ")


def test_an_index_that_is_locked_is_an_error_by_its_own_key(tmp_path: Path) -> None:
    index = place_of(recipe(tmp_path, examples={"index": str(tmp_path)}))
    with index.lock(), pytest.raises(UserError) as error, index.below(".").lock():
        pass
    assert str(error.value).startswith("examples.index: another run is writing to ")
    assert str(error.value).endswith(" or give another `examples.index`")


def test_only_a_source_that_is_split_holds_questions_out(tmp_path: Path) -> None:
    assert QuestionSet(recipe(tmp_path)).holdout is None
    holdout = {"holdout": {"n": 3}}
    other = {"source": str(questions_csv(tmp_path / "other.csv", 8))}
    assert QuestionSet(recipe(tmp_path, questions=holdout, examples=other)).holdout is None
    held = QuestionSet(recipe(tmp_path, questions=holdout)).holdout
    assert held is not None
    assert len(held) == 3


def test_what_is_asked_is_known_by_its_text(tmp_path: Path) -> None:
    every = {name: content_key(question(question=f"#{name} which is it?")) for name in (f"q{n}" for n in range(8))}
    assert QuestionSet(recipe(tmp_path)).content_keys == set(every.values())
    split = QuestionSet(recipe(tmp_path, questions={"holdout": {"n": 3}}))
    assert split.content_keys == {every[name] for name in split.holdout or ()}
