"""deploy/kaggle-two-t4.ipynb is a notebook whose commands have a plan on two T4s."""

import re
from pathlib import Path

import nbformat
import pytest
import yaml

from tests.support.notebooks import CELLS, CODE, FILE, PLACES, Cells, attach
from tests.support.quoted import planned, recipes
from tests.support.runs import ROOT

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


@pytest.mark.parametrize("place", PLACES)
def test_inputs_are_found_wherever_kaggle_mounts_them(place: str, tmp_path: Path) -> None:
    attach(tmp_path, place)
    for name in ("submission.csv", "report.html"):
        (tmp_path / "kaggle" / "working" / "run" / name).write_text("task_id,answer\n")
    cells = Cells(tmp_path)
    for cell in CODE:
        cells.run(cell)
    where = place.format(name="codemmlu")
    assert f"questions.source={tmp_path}/kaggle/input/{where}/test.csv" in cells.commands()
    assert (tmp_path / "kaggle" / "working" / "submission.csv").is_file()
    assert cells.environment["VLLM_USE_FLASHINFER_SAMPLER"] == "0", "there is no nvcc here"
    assert cells.environment["NCCL_P2P_DISABLE"] == "1"


def test_a_dataset_that_is_not_attached_stops_the_notebook(tmp_path: Path) -> None:
    attach(tmp_path, "datasets/somebody/{name}")
    (tmp_path / "kaggle/input/datasets/somebody/codemmlu/train.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"no dataset codemmlu with train\.csv is attached; there is .*somebody"
    ):
        Cells(tmp_path).run(CODE[0])


@pytest.mark.parametrize("tool", ["nvidia-smi", "pip", "uv"])
def test_a_step_that_fails_stops_the_notebook(tool: str, tmp_path: Path) -> None:
    attach(tmp_path, "{name}")
    with pytest.raises(RuntimeError, match="the command above ended with exit code 3"):
        Cells(tmp_path, **{tool: "exit 3"}).run(CODE[0])


def test_a_run_that_fails_stops_the_notebook(tmp_path: Path) -> None:
    attach(tmp_path, "{name}")
    cells = Cells(tmp_path, nvcc="echo release 13.0, V13.0.1", python="case $* in *dry-run) ;; *) exit 2;; esac")
    cells.run(CODE[0])
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in cells.environment
    cells.run(CODE[1])
    with pytest.raises(RuntimeError, match="exit code 2"):
        cells.run(CODE[2])
