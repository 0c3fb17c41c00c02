"""The jobs on one NVIDIA GPU: answered by vLLM's CUDA build, finetuned with NF4 weights by each backend."""

import importlib.util
import json
from pathlib import Path

import pytest

from codemmlu.cli.dry_run import here
from codemmlu.engine.placement.placement import built_for_cpu
from tests.support.processes import Run, finish
from tests.support.runs import start_job

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(built_for_cpu() or not here().gpus, reason="needs an NVIDIA GPU and vLLM's CUDA build"),
]


def job(name: str, *arguments: str) -> Run:
    """Run a job as a process: its Ray finds the GPU."""
    return finish(start_job(name, *arguments))


def test_the_demo_is_answered(tmp_path: Path) -> None:
    done = job("run", "recipes/demo.yaml", f"out={tmp_path / 'run'}", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["voters"]["direct"]["answered"] == report["questions"]


@pytest.mark.parametrize("backend", ["peft", "unsloth"])
def test_weights_are_trained_and_served(backend: str, tmp_path: Path) -> None:
    if backend == "unsloth" and importlib.util.find_spec("unsloth") is None:
        pytest.skip("unsloth is not installed")
    settings = ["finetune.limit=64", "finetune.epochs=1", f"finetune.backend={backend}"]
    done = job("run", "recipes/finetune-smol.yaml", f"out={tmp_path / 'run'}", *settings)
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "run" / "adapters" / "tuned" / "manifest.json").read_text())
    assert manifest["backend"] == backend
    assert manifest["device"] != "CPU"
    assert manifest["tune"][-1]["loss"] < manifest["tune"][0]["loss"]
