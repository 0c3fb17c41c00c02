"""What a visitor and a contributor find beside the code: it agrees with the code, and names what is there."""

import re
import tomllib
from typing import Any

import pytest
import yaml

from codemmlu import __version__
from tests.support.runs import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_one_version_and_one_licence_are_named() -> None:
    citation = read("CITATION.cff")
    assert __version__ == PROJECT["version"] == citation["version"]
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").read_text().split()[:2] == ["Apache", "License"]
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_workflow_runs_what_ci_runs() -> None:
    (job,) = read(".github/workflows/ci.yml")["jobs"].values()
    tiers = re.search(r"for tier in (.+);", (ROOT / ".ci" / "run").read_text())
    assert tiers
    assert job["strategy"]["matrix"]["target"] == tiers[1].split()
    assert job["steps"][-1]["run"] == "make ${{ matrix.target }}"


def test_commit_hooks_use_what_setup_installs() -> None:
    (local,) = read(".pre-commit-config.yaml")["repos"]
    dev = " ".join(PROJECT["optional-dependencies"]["dev"])
    tools = {hook["entry"].split()[0] for hook in local["hooks"]}
    assert [tool for tool in tools if tool.removeprefix(".venv/bin/") not in dev] == []


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_an_issue_template_is_a_form(template: Any) -> None:
    form = yaml.safe_load(template.read_text())
    if template.stem != "config":
        assert {"name", "description", "body"} <= form.keys()
        assert all({"type", "id", "attributes"} <= field.keys() for field in form["body"])


def test_the_contribution_guide_names_what_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"\b(?:codemmlu|tests|docs)/[\w./-]+\.(?:py|md)", text)) - {
        "codemmlu/inference/methods/NAME.py"
    }
    assert len(named) >= 12
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []
    for registry, module in re.findall(r"`([A-Z]+)` in `(codemmlu/[\w/]+\.py)`", text):
        assert re.search(rf"^{registry}\b", (ROOT / module).read_text(), re.MULTILINE), (registry, module)
