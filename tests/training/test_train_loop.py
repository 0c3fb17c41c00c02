"""What a training worker does before the first step, in this process: what it refuses, and how it says so."""

import errno
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir
from codemmlu.training import backends, faults
from codemmlu.training.encoding import examples_to_table
from codemmlu.training.job_spec import FAULT, LESSONS, TrainJobSpec
from tests.support.rows import question
from tests.support.tiny_model import tiny_model


def run_worker(job: TrainJobSpec) -> None:
    """Run the worker's part. It is imported late: that takes seconds, and every process of the tests collects this."""
    from codemmlu.training import train_loop

    train_loop.run_worker(job)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def course(folder: RunDir, model: Path, **settings: Any) -> TrainJobSpec:
    """Lay out a training of two questions, one of which is long, tuned by a third."""
    questions = [question("t1"), question("t2", question="Why? " * 600), question("t3")]
    folder.write_table(LESSONS, examples_to_table(questions, ["train", "train", "tune"], [[], [], []], {}))
    given = FinetuneSettings(model="m", quantization="none", gradient_checkpointing=False, **settings)
    return TrainJobSpec(folder.address, str(model), None, "/nowhere", None, "peft", given, print)


@pytest.mark.parametrize("parts", [("train", "tune"), ("tune", "train")])
def test_a_part_of_which_every_example_is_too_long_is_told(model: Path, tmp_path: Path, parts: tuple[str, str]) -> None:
    folder = RunDir(str(tmp_path))
    job = course(folder, model, max_length=600)
    long, short = question("t1", question="Why? " * 600), question("t2")
    folder.write_table(LESSONS, examples_to_table([long, short], parts, [[], []], {}))
    run_worker(job)
    assert folder.read(FAULT).decode() == (
        f"finetune.max_length: every example of the {parts[0]} part is longer than 600 tokens; raise it"
    )


@pytest.mark.parametrize("on_gpu", [True, False])
def test_too_little_memory_is_told_and_ends_all_workers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_gpu: bool
) -> None:
    import torch

    on_cpu = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
    error = torch.OutOfMemoryError("CUDA") if on_gpu else on_cpu

    def load(*_: object) -> backends.LoadedModel:
        raise error

    monkeypatch.setitem(cast("dict[str, Any]", backends.BACKENDS), "peft", load)
    folder = RunDir(str(tmp_path))
    job = course(folder, model, batch_size=3)
    with pytest.raises(RuntimeError, match=r"^finetune\.batch_size: 3 sequences of up to 8,092 tokens do not fit"):
        run_worker(job)
    assert folder.read(FAULT).decode().startswith("finetune.batch_size: 3 sequences")
    run_worker(job)  # another worker, started after the fault was written down: it ends without loading anything


def test_an_unexpected_error_of_a_worker_is_no_fault_of_the_user(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> backends.LoadedModel:
        raise RuntimeError("unexpected")

    monkeypatch.setitem(cast("dict[str, Any]", backends.BACKENDS), "peft", load)
    folder = RunDir(str(tmp_path))
    with pytest.raises(RuntimeError, match=r"^unexpected$"):
        run_worker(course(folder, model))
    assert not folder.exists(FAULT)


FULL = OSError(errno.ENOSPC, "No space left on device")
PERMANENT: dict[str, tuple[Exception, str]] = {
    "awq with nf4": (
        ValueError("The model is quantized with AwqConfig but you are passing a BitsAndBytesConfig"),
        r"finetune\.model: .* cannot be trained as the recipe says: The model is quantized with AwqConfig",
    ),
    "code of its own": (
        ValueError("Please pass the argument `trust_remote_code=True` to allow custom code to be run."),
        r"custom code to be run\.; models\.m\.trust_remote_code=true lets it run",
    ),
    "a library's check": (AttributeError("no pad_token"), "cannot be trained as the recipe says: no pad_token"),
    "a full disk": (FULL, r"out: .* cannot be written: the disk is full \(.*free.*\); make room"),
    "safetensors' full disk": (Exception("I/O error: No space left on device (os error 28)"), "the disk is full"),
}


@pytest.mark.parametrize("name", PERMANENT)
def test_what_a_new_attempt_would_meet_again_ends_at_once(
    name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error, says = PERMANENT[name]
    loads = []

    def load(*_: object) -> backends.LoadedModel:
        loads.append(1)
        raise error

    monkeypatch.setitem(cast("dict[str, Any]", backends.BACKENDS), "peft", load)
    folder = RunDir(str(tmp_path))
    with pytest.raises(RuntimeError, match=says):
        run_worker(course(folder, model))
    run_worker(course(folder, model))  # as Ray Train would
    assert loads == [1]
    assert re.search(says, folder.read(FAULT).decode())
    assert "\n" not in folder.read(FAULT).decode()


def test_a_fault_is_left_where_not_a_byte_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunDir(str(tmp_path))

    def full(*_: object) -> None:
        raise UserError("out: full")

    monkeypatch.setattr(RunDir, "write", full)
    faults.leave(folder, "finetune: a fault")
    assert "the disk is full" in str(faults.read(folder))


def test_the_models_own_code_runs_where_the_recipe_lets_it(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted = []

    def load(*given: object) -> backends.LoadedModel:
        trusted.append(given[-1])
        raise ValueError("far enough")

    monkeypatch.setitem(cast("dict[str, Any]", backends.BACKENDS), "peft", load)
    for trust in (False, True):
        folder = RunDir(str(tmp_path / str(trust)))
        with pytest.raises(RuntimeError):
            run_worker(replace(course(folder, model), trust_remote_code=trust))
    assert trusted == [False, True]


def trained_alone(job: TrainJobSpec, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Run a training in this process, as the only worker, and return the messages to the driver."""
    import ray.train

    messages: list[dict[str, Any]] = []
    alone = SimpleNamespace(get_world_rank=lambda: 0, get_world_size=lambda: 1)
    monkeypatch.setattr(ray.train, "get_context", lambda: alone)
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: None)
    monkeypatch.setattr(ray.train, "report", lambda *_, **__: None)
    run_worker(replace(job, tell=cast(Any, messages.append)))
    assert not RunDir(job.address).exists(FAULT), RunDir(job.address).read(FAULT)
    return messages


SWITCHES = {
    **{"orders": 2, "consistency": 0.5, "packing": True, "frozen_layers": 1, "activations_gib": 0.1},
    **{"label_smoothing": 0.1, "kind_weights": {"knowledge": 2}},
}


@pytest.mark.parametrize("switches", [{}, SWITCHES], ids=["plain", "all"])
def test_a_training_runs_with_every_switch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, switches: dict[str, Any]
) -> None:
    folder = RunDir(str(tmp_path))
    steps = {"batch_size": 4, "accumulation": 1, "epochs": 6, "learning_rate": 0.05, "patience": 99}
    job = course(folder, model, optimizer="adamw", **steps, **switches)
    learnt = [question(f"t{n}", question=f"What is {n} called?", answer="ABCD"[n % 4]) for n in range(6)]
    folder.write_table(LESSONS, examples_to_table(learnt, ["train"] * 4 + ["tune"] * 2, [[]] * 6, {}))
    messages = trained_alone(job, monkeypatch)
    begun = next(message for message in messages if message["kind"] == "begin")
    losses = [message["loss"] for message in messages if message["kind"] == "step"]
    tuned = [message for message in messages if message["kind"] == "tune"]
    assert begun["sequences"] == 24 * (4 if switches else 1)
    assert len(losses) == begun["steps"] == begun["sequences"] // 4
    assert sum(losses[-4:]) < sum(losses[:4])
    assert tuned[0]["step"] == 0
    assert all(message["accuracy"] is not None for message in tuned)
