"""Pages that scripts make are what the scripts make today, and their figures are those that were measured."""

import importlib.util
import re
from typing import Any

import pytest
import yaml

from tests.support.runs import ROOT

DOCS = ROOT / "docs"


def script(name: str) -> Any:
    """Import a script of docs/."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["reference", "results"])
def test_a_made_page_is_current(name: str) -> None:
    made = script(name)
    assert made.PAGE.read_text() == made.page(), f"run: python docs/{name}.py"


def test_every_key_of_a_recipe_is_explained() -> None:
    rows = [line for line in (DOCS / "reference" / "recipe.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 150
    assert [row for row in rows if row.endswith("|  |")] == []


def test_figures_of_the_readme_are_measured_ones() -> None:
    """Every row of its table stands in docs/results.md with the same accuracy and interval."""
    results = (DOCS / "results.md").read_text()
    table = (ROOT / "README.md").read_text().partition("## What it gave")[2].partition("##")[0]
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    measured = [row for row in rows[2:] if row[3]]
    assert len(measured) == 5
    for _, _, accuracy, interval, _ in measured:
        assert f"| {accuracy} | {interval} |" in results


def test_measurements_say_where_they_are_from() -> None:
    for name, part in yaml.safe_load((DOCS / "measurements.yaml").read_text()).items():
        assert {"title", "about", "command", "date", "commit", "columns", "rows"} <= part.keys(), name
        assert {len(row) for row in part["rows"]} == {len(part["columns"])}, name


def test_the_site_lists_every_page() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert [page for page in pages if f"- {page}\n" not in text] == []


def test_tests_that_a_page_names_exist() -> None:
    named = re.findall(r"`([\w/]+\.py)`", (DOCS / "troubleshooting.md").read_text())
    assert len(named) > 30
    assert [name for name in named if not (ROOT / name).is_file()] == []
