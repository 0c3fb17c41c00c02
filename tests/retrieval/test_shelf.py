"""The shelf: what an ask knows of the examples it looks at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.answering.asks import ask_of
from codemmlu.recipe import DirectVoter, ExampleSettings, RetrieveVoter
from codemmlu.retrieval.neighbours import Rule
from codemmlu.retrieval.store import VERSION, Manifest
from codemmlu.run_dir import RunDir
from codemmlu.shelf import Shelf
from tests.retrieval.encoders import HASHED
from tests.retrieval.shelves import LIKE_RIGHT, RULE, SETTINGS
from tests.samples import QUESTION

MANIFEST = Manifest(
    version=VERSION,
    fingerprint="f",
    embedder="hashed",
    revision=None,
    embedder_fingerprint="hashed-1",
    text="question",
    metric="cosine",
    kind="exact",
    count=3,
    dimensions=32,
    shards=(),
    weights=LIKE_RIGHT,
    recall_at_10=None,
    examples_per_second=1.0,
)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """A shelf that stands."""
    return Shelf(RunDir(str(tmp_path)), MANIFEST, HASHED, SETTINGS, RULE)


def keys(shelf: Shelf) -> list[str]:
    """Of a question that is shown examples, and of one that retrieval answers alone."""
    voters = (DirectVoter(model="m", examples=2), RetrieveVoter(method="retrieve"))
    return [ask_of(voter, "w", shelf.view).key(QUESTION) for voter in voters]


@pytest.mark.parametrize(
    "rule",
    [{"exclude": "same"}, {"near_duplicates": "drop"}, {"min_similarity": 0.1}, {"diversity": 0.1}],
)
def test_another_rule_is_another_ask(shelf: Shelf, rule: dict[str, Any]) -> None:
    other = replace(shelf, rule=replace(RULE, **rule))
    assert not set(keys(other)) & set(keys(shelf))


def test_another_index_is_another_ask(shelf: Shelf) -> None:
    other = replace(shelf, manifest=MANIFEST.model_copy(update={"fingerprint": "g"}))
    assert not set(keys(other)) & set(keys(shelf))


def test_another_budget_is_another_ask_of_a_model_alone(shelf: Shelf) -> None:
    direct, retrieve = keys(replace(shelf, settings=ExampleSettings(source="x", tokens=99)))
    assert direct != keys(shelf)[0]
    assert retrieve == keys(shelf)[1]


def test_the_same_index_elsewhere_is_the_same_ask(shelf: Shelf, tmp_path: Path) -> None:
    moved = replace(shelf, index=RunDir(str(tmp_path / "elsewhere")))
    faster = replace(moved, manifest=MANIFEST.model_copy(update={"examples_per_second": 9.0}))
    assert keys(faster) == keys(shelf)


def test_examples_that_are_picked_to_differ_have_no_stand_ins(shelf: Shelf) -> None:
    assert shelf.view.spare
    assert not replace(shelf, rule=Rule("same", "keep", -1, 0.5)).view.spare
