"""Runs that are disturbed while questions are under way, and what has to be there once they are re-issued."""

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codemmlu.engine.scripted import CORE_PROCESS
from tests.support.raylets import processes_of
from tests.support.runs import ScriptedRun

QUESTIONS = 600
SCRIPT = {
    "answers": {f"#q{i} ": f"that {i}" for i in range(0, QUESTIONS, 4)},
    "own_process": True,
    "seconds": 0.5,
}
JOB_PROCESSES = (
    *("BlockWorker", CORE_PROCESS, "EngineCore", "VLLM::Worker"),
    *("jobs/answer.py", "watchdog.py", "multiprocessing"),
)


def check_finished(folder: str, run: ScriptedRun) -> int:
    """Check that every question has one answer and the right verdict, and that no process of a job is left.

    Args:
        folder: RAY_TMPDIR of the Ray that the run used.
        run: A run of SCRIPT over QUESTIONS questions.

    Returns:
        The number of questions that were asked twice.
    """
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(QUESTIONS)), "lost or doubled"
    rows = pq.read_table(run.out / "verdicts.parquet").to_pylist()
    assert {row["task_id"]: row["letter"] for row in rows} == {f"q{i}": "A" if i % 4 else "B" for i in range(QUESTIONS)}
    assert all(max(row["probabilities"]) == pytest.approx(7 / 9) for row in rows)
    check_nothing_left(folder)
    return sum(times > 1 for times in run.times_asked().values())


def check_nothing_left(folder: str, seconds: float = 60) -> None:
    """Check that no process of a job outlives the job by more than `seconds`."""
    end = time.monotonic() + seconds
    while (left := [process for name in JOB_PROCESSES for process in processes_of(folder, name)]) and (
        time.monotonic() < end
    ):
        time.sleep(0.2)
    assert not left, "processes are left behind"


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """Make a folder a disk of 4 MiB, and tell whether that could be done."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Leave no room until the block ends; for a folder that is a small disk of its own."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**12))
    yield
    filler.unlink()


def damage_one(out: Path, draw: random.Random) -> tuple[str, int]:
    """Cut a file of a run, or change one byte of it: half of the times a file of answers.

    Args:
        out: The run directory, in which nothing is written meanwhile.
        draw: Chooses the file and the change.

    Returns:
        What was done, and how many answers the file held.
    """
    answers = sorted(out.glob("answers/*/*.parquet"))
    files = answers if draw.random() < 0.5 else sorted(file for file in out.rglob("*") if file.is_file())
    file = draw.choice([file for file in files if file.stat().st_size])
    rows = pq.read_metadata(file).num_rows if file in answers else 0
    content = bytearray(file.read_bytes())
    at = draw.randrange(len(content))
    if is_cut := draw.random() < 0.3:
        del content[at:]
    else:
        content[at] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return f"{'cut' if is_cut else 'flip'} at {at:,} of {file.relative_to(out)}", rows
