"""Runs that are disturbed while questions are under way, and what has to be there once they are re-issued."""

import time

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
