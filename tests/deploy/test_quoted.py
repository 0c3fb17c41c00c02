"""What the deployment files say of the project is true of it: versions and recipes, in their comments too."""

import pytest

from tests.support.quoted import FILES, asked_for, recipes, versions
from tests.support.runs import ROOT


@pytest.mark.parametrize("file", FILES)
def test_pinned_versions_are_ones_the_project_asks_for(file: str) -> None:
    pinned, asked = versions((ROOT / file).read_text()), asked_for()
    assert {"uv", "ray"} - {name for name, _ in pinned} <= ({"ray"} if file.endswith("ipynb") else set())
    wrong = [(name, version) for name, version in pinned if name not in asked or version not in asked[name]]
    assert not wrong


def test_one_version_of_everything_is_pinned() -> None:
    pinned = set().union(*(versions((ROOT / file).read_text()) for file in FILES))
    assert len(pinned) == len({name for name, _ in pinned}), pinned


@pytest.mark.parametrize("file", FILES)
def test_named_recipes_are_there(file: str) -> None:
    named = recipes((ROOT / file).read_text())
    assert named
    assert not [recipe for recipe in named if not (ROOT / recipe).exists()]


@pytest.mark.parametrize("file", FILES)
def test_holds_no_secret(file: str) -> None:
    text = (ROOT / file).read_text()
    assert not [mark for mark in ("AKIA", "aws_secret", "PRIVATE KEY") if mark in text]
    assert "hf_" not in text.replace("hf_...", "")
