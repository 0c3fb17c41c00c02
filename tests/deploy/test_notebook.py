"""deploy/kaggle-two-t4.ipynb is a notebook whose commands have a plan on two T4s."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from tests.support.quoted import planned, recipes
from tests.support.runs import ROOT

FILE = ROOT / "deploy" / "kaggle-two-t4.ipynb"
CELLS: list[dict[str, Any]] = json.loads(FILE.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
WORDS = "\n".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
COMMANDS = re.findall(r"^!(python jobs/run\.py [^;\n]*)", "\n".join(CODE), flags=re.MULTILINE)


def test_it_is_a_notebook_that_was_not_run() -> None:
    notebook = nbformat.read(FILE, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in notebook.cells if cell.cell_type == "code"] == [[]] * 4
    assert notebook.metadata.kaggle.accelerator == "nvidiaTeslaT4"


def test_its_python_is_python() -> None:
    for cell in CODE:
        lines = [line for line in cell.splitlines() if not line.startswith(("!", "%"))]
        compile("\n".join(lines), "cell", "exec")


def test_it_plans_what_it_runs() -> None:
    plan, run = COMMANDS
    assert plan == f"{run.strip()} --dry-run"


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_a_plan_on_two_t4s(command: str, tmp_path: Path) -> None:
    done = planned(command, tmp_path, "--gpus", "2xT4")
    assert done.code == 0, done.err
    assert "40 questions" in done.out
    assert "2 x T4" in done.out
    assert "Nothing was started" in done.out


def test_it_installs_first_and_looks_at_what_the_run_wrote() -> None:
    install, _, run, look = CODE
    assert '".[gpu]"' in install
    (out,) = re.findall(r"out=(\S+);", run)
    assert re.findall(r"^!python jobs/report\.py (\S+)$", look, flags=re.MULTILINE) == [out]
    assert f"{out}/submission.csv" in look


def test_the_way_without_internet_names_a_model_of_the_recipe() -> None:
    (recipe,) = recipes(FILE.read_text())
    models = yaml.safe_load((ROOT / recipe).read_text())["models"]
    named = set(re.findall(r"models\.([a-z0-9-]+)\.source=", WORDS))
    assert named
    assert named <= set(models)
