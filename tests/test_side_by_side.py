"""Two models at once on a cluster that has a GPU for each: real jobs, with the scripted engine behind them."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.conftest import QUIET, head_node
from tests.runs import CountedRun, finish

TWO = ["models.n={source: embedded}", "voters.other={model: n}"]
QUESTIONS = 120


@pytest.fixture(scope="module")
def two_gpus() -> Iterator[str]:
    """A Ray of its own that believes to have two GPUs, found by the folder that it keeps its things in."""
    folder = tempfile.mkdtemp(dir="/tmp")  # short: a socket's path has no room for pytest's folders
    with head_node(*QUIET, "--num-gpus=2", environment={"RAY_TMPDIR": folder}):
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(two_gpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CountedRun:
    monkeypatch.setenv("RAY_TMPDIR", two_gpus)
    return CountedRun(tmp_path, QUESTIONS, {"seconds": 0.1})


def spans(run: CountedRun) -> list[tuple[float, float]]:
    """When the answers of each model were begun: the first and the last."""
    found = []
    for pool in ("m", "n"):
        rows: list[dict[str, Any]] = [
            row for file in (run.out / "answers" / pool).glob("*.parquet") for row in pq.read_table(file).to_pylist()
        ]
        assert len({row["task_id"] for row in rows}) == len(rows) == QUESTIONS
        found.append((min(row["started"] for row in rows), max(row["started"] for row in rows)))
    return found


def test_where_there_is_room_two_models_answer_at_once(run: CountedRun) -> None:
    done = run.run(*TWO, "gpus=2xT4", "models.m.max_num_seqs=2", "models.n.max_num_seqs=2")
    assert done.code == 0, done.err
    assert "m, n: side by side, there is room for all of them" in done.out
    (m_first, m_last), (n_first, n_last) = spans(run)
    assert max(m_first, n_first) < min(m_last, n_last)
    assert run.report()["voters"].keys() == {"direct", "other"}
    assert run.run(*TWO, "gpus=2xT4").out.count("nothing left to ask") == 2


def test_without_room_one_answers_after_the_other(run: CountedRun) -> None:
    done = run.run(*TWO, "gpus=1xT4")
    assert done.code == 0, done.err
    assert "side by side" not in done.out
    (_, m_last), (n_first, _) = spans(run)
    assert m_last < n_first


def test_what_waits_for_another_model_is_asked_after_it(run: CountedRun) -> None:
    waits = "voters.other={model: n, when: {margin_below: 1, of: [direct]}}"
    done = run.run(TWO[0], waits, "gpus=2xT4")
    assert done.code == 0, done.err
    assert "side by side" not in done.out


def test_a_mistake_in_one_ends_both(run: CountedRun) -> None:
    run.engine = {"refused": "the letter A is not one token"}
    done = run.run(*TWO, "gpus=2xT4")
    assert done.code == 2
    assert done.err.strip() == "error: the letter A is not one token"


def test_ctrl_c_ends_both_and_the_same_command_goes_on(run: CountedRun) -> None:
    slow = [*TWO, "gpus=2xT4", "models.m.max_num_seqs=1", "models.n.max_num_seqs=1"]
    job = run.start(*slow)
    while len(run.durable()) < 8:
        assert job.poll() is None, job.communicate()
        time.sleep(0.1)
    job.send_signal(signal.SIGINT)
    done = finish(job)
    assert done.code == 130, done.err
    assert "Stopped. What was answered is kept" in done.err
    assert len(run.durable()) < QUESTIONS
    again = run.run(*slow)
    assert again.code == 0, again.err
    assert "answers are here already" in again.out
    spans(run)
