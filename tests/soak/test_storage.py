"""Storage that breaks amid a run: a full disk, a folder where nothing can be made; and the same command again."""

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.support.disturbed_runs import QUESTIONS, SCRIPT, check_finished, full_disk, small_disk
from tests.support.runs import ScriptedRun

pytestmark = pytest.mark.soak


@contextmanager
def denied(folder: Path) -> Iterator[None]:
    """Nothing can be made where answers are until it is over; not even by root."""
    answers = folder / "run" / "answers" / "m"
    subprocess.run(["chattr", "+i", str(answers)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(answers)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    with small_disk(tmp_path / "disk") as is_mounted:
        if not is_mounted:
            pytest.skip("disks cannot be mounted here")
        yield tmp_path / "disk"


@contextmanager
def broken_amid(run: ScriptedRun, breaks: Callable[[Path], Any]) -> Iterator[None]:
    """Break a run's storage once some of its answers are durable, until the block ends."""
    ended = Event()
    with ExitStack() as broken, ThreadPoolExecutor(1) as beside:

        def wait_and_break() -> None:
            while not run.durable():
                if ended.wait(0.05):
                    raise AssertionError("no answer became durable")
            broken.enter_context(breaks(run.folder))

        breaking = beside.submit(wait_and_break)
        try:
            yield
        finally:
            ended.set()
        breaking.result()


@pytest.mark.parametrize(("breaks", "why"), [(full_disk, "the disk is full ("), (denied, "Operation not permitted")])
def test_storage_that_breaks_once(
    ray_cluster: dict[str, str], disk: Path, tmp_path: Path, breaks: Callable[[Path], Any], why: str
) -> None:
    run = ScriptedRun(disk, QUESTIONS, SCRIPT, ray_cluster, log_folder=tmp_path)
    with broken_amid(run, breaks):
        first = run.run_process()  # the actors of a run that failed end with its process
        kept = len(run.durable())
    assert first.code == 2, first.err
    assert first.err.count("\n") == 1, first.err
    assert f"error: out: {run.out}/" in first.err
    assert f"cannot be written: {why}" in first.err
    assert 1 <= kept < QUESTIONS
    last = run.run()
    assert last.code == 0, last.err
    assert f"{kept} answers are here already" in last.out
    twice = check_finished(os.environ["RAY_TMPDIR"], run)
    print(f"\n{why}: {kept} durable when it stopped, {twice} asked twice")
