"""`doctor`: what it says of drivers, memory and recipes, and that it starts nothing."""

import importlib.util
import json
from pathlib import Path

import pytest

from codemmlu.cli import machine
from codemmlu.cli.doctor import too_much
from codemmlu.cli.machine import cuda_of_torch, driver_problem
from codemmlu.cli.starting_recipe import best_model
from codemmlu.engine.placement.gpus import Resources, simulated
from codemmlu.recipe.packaged import packaged
from tests.support.runs import installed


def test_doctor_says_what_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    done = installed("doctor", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    parts = {finding["what"] for finding in report["machine"]}
    assert parts >= {"software", "CPU", "memory", "GPU", "disk here", "Ray", "sandbox", "caches"}
    assert report["recipes"].keys() == packaged().keys()
    assert report["recipes"]["demo"] == "fits"
    assert "recipes that fit" in done.err


@pytest.mark.parametrize(
    ("driver", "cuda", "says"),
    [
        ("550.54.15", "12.9", ""),
        ("550.54.15", "13.0", "CUDA 13.0 needs driver 580 or newer"),
        ("470.10", "12.9", "CUDA 12.9 needs driver 525 or newer"),
        ("580.65.06", None, "leaves the GPU idle: install the extra gpu"),
    ],
)
def test_a_driver_is_measured_by_what_torch_wants(driver: str, cuda: str | None, says: str) -> None:
    problem = driver_problem(driver, cuda)
    assert says in problem
    assert bool(problem) == bool(says)


def test_cuda_is_read_from_torch_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise AssertionError('torch was imported')")
    (tmp_path / "torch" / "version.py").write_text("cuda: Optional[str] = '12.9'\nhip: Optional[str] = None\n")
    spec = importlib.util.spec_from_file_location(
        "torch", tmp_path / "torch" / "__init__.py", submodule_search_locations=[str(tmp_path / "torch")]
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    assert cuda_of_torch() == "12.9"


def test_gpus_are_named_with_memory_and_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Tesla T4, 15360 MiB, 470.10'\necho 'Tesla T4, 15360 MiB, 470.10'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(machine, "cuda_of_torch", lambda: "12.9")
    found = [finding for finding in machine.findings() if finding.what == "GPU"]
    assert [finding.text for finding in found] == ["Tesla T4, 15360 MiB, driver 470.10; torch wants CUDA 12.9"] * 2
    assert found[0].problem


@pytest.mark.parametrize(
    ("hardware", "fits", "not_fits"),
    [
        ("2xT4", ("mixtral-8x7b-2xt4", "qwen2.5-32b-awq", "qwen2.5-7b"), ("qwen2.5-coder-32b", "mistral-small-24b")),
        ("1xT4", ("demo", "qwen-0.5b"), ("mixtral-8x7b-2xt4",)),
        ("1xH100", ("qwen2.5-coder-32b",), ()),
    ],
)
def test_recipes_that_fit_are_those_that_are_placed(
    hardware: str, fits: tuple[str, ...], not_fits: tuple[str, ...]
) -> None:
    reasons = {name: too_much(str(packaged()[name]), simulated(hardware)) for name in (*fits, *not_fits)}
    assert [name for name in fits if reasons[name]] == []
    assert [name for name in not_fits if not reasons[name]] == []


def test_a_starting_recipe_takes_the_best_model_that_fits() -> None:
    assert best_model(Resources())[1] == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    assert best_model(simulated("2xT4"))[1] == "Qwen/Qwen2.5-32B-Instruct-AWQ"
    assert best_model(simulated("1xL4"))[1] != best_model(simulated("1xT4"))[1]
