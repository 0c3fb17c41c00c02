"""Models, adapters and machines as people have them: each mistake ends the command with code 2 and one line."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.adapters import layers, write_adapter
from tests.support.finetunes import Finetune
from tests.support.gguf_files import write_gguf
from tests.support.processes import Run, finish
from tests.support.runs import ScriptedRun, start_job
from tests.support.tiny_model import tiny_model

pytestmark = pytest.mark.soak


def one_line(done: Run, says: str) -> None:
    """Check that a command ended as a user's mistake does."""
    assert done.code == 2, done.out + done.err
    assert says in done.err
    assert done.err.count("\n") == 1, done.err


@pytest.mark.parametrize(
    ("config", "says"),
    [({"use_dora": True}, "has DoRA"), ({}, "changes none of models.m's layers")],
    ids=["not served", "of no layer"],
)
def test_an_adapter_that_cannot_be_served(config: dict[str, bool], says: str, tmp_path: Path) -> None:
    """Beside a base that can be asked: nothing is asked, no engine starts."""
    run = ScriptedRun(tmp_path, 8, source=str(tiny_model(tmp_path / "tiny")))
    adapter = write_adapter(tmp_path / "adapter", layers("model.language_model."), **config)
    one_line(
        run.run_process(f"voters.tuned={{model: m, adapter: {adapter}}}"), f"voters.tuned.adapter: {adapter} {says}"
    )
    assert run.answers() == []


def test_a_part_of_a_split_gguf(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "whole.gguf", {"split.count": 2, "split.no": 0})
    run = ScriptedRun(tmp_path / "run", 8, source=str(file))
    one_line(run.run_process(), "whole.gguf is part 1 of 2 of a model")


def test_a_stale_address_of_ray(tmp_path: Path) -> None:
    """Somebody else listens there, who says nothing: Ray would wait for minutes."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        run = ScriptedRun(tmp_path, 8, environment={"RAY_ADDRESS": address})
        one_line(run.run_process(), f"RAY_ADDRESS: no Ray cluster answers at {address} (something else than Ray")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one MiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_in_training(small_disk: Path, tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """A checkpoint does not fit: one attempt, and the path with what is missing."""
    run = Finetune(tmp_path / "training", environment=ray_cluster)
    process = start_job("finetune", str(run.recipe), f"out={small_disk}/run", environment=run.environment)
    done = finish(process)
    one_line(done, f"out: {small_disk}/run")
    assert "the disk is full" in done.err
    assert done.out.count("sequences in") == 1, "trained from the start again"
