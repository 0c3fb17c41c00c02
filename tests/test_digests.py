"""Digests stay: no adapter is trained and no question asked again because a setting exists now.

tests/fixtures/digests.json was written before there was a rule for later settings; `tests/support/digests.py` adds to
it what new recipes have.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from codemmlu.engine.adapter_store import what_is_learnt
from codemmlu.recipe import DirectVoter, FinetuneSettings, digested, left_out, method_settings
from tests.support.digests import FIXTURE, ROOT, digests_of

KNOWN = json.loads(FIXTURE.read_text())


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_recipe_has_the_digests_that_it_had(name: str, tmp_path: Path) -> None:
    assert digests_of(ROOT / "recipes" / name, tmp_path / "run") == KNOWN[name]


def test_every_recipe_is_held() -> None:
    assert {path.name for path in (ROOT / "recipes").glob("*.yaml")} == KNOWN.keys()


class LaterVoter(DirectVoter):
    """A voter of a later version, with one more setting."""

    later: int = 3


def test_a_later_setting_counts_where_it_differs() -> None:
    assert method_settings(DirectVoter(model="m")) == {"readings": 1}
    assert left_out(LaterVoter(model="m")) >= {"later"}
    assert "later" not in left_out(LaterVoter(model="m", later=4))


def test_the_first_settings_of_a_training_always_count() -> None:
    learnt = what_is_learnt(FinetuneSettings(model="m"))
    assert {"epochs", "learning_rate", "targets", "pairs_from", "start"} <= learnt.keys()
    assert what_is_learnt(FinetuneSettings(model="m", epochs=2)) != learnt


@dataclass(frozen=True)
class Policy:
    """Something that enters a digest by its fields."""

    first: str
    later: float = 0.5


def test_a_later_field_counts_where_it_differs() -> None:
    assert digested(Policy("a")) == {"first": "a"}
    assert digested(Policy("a", 0.25)) == {"first": "a", "later": 0.25}
