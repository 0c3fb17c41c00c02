"""Two models at once on a cluster that has a GPU for each; the engines are scripted."""

import signal
import threading
from pathlib import Path

import pytest

from codemmlu.cli.console import LiveProgress
from tests.support.processes import finish
from tests.support.runs import ScriptedRun

QUESTIONS = 120
SLOW = ["models.m.max_num_seqs=1", "models.n.max_num_seqs=1"]


@pytest.fixture
def run(ray_cluster: dict[str, str], tmp_path: Path) -> ScriptedRun:
    return ScriptedRun(tmp_path, QUESTIONS, environment=ray_cluster)


def second_model(run: ScriptedRun, script: str = "script.json") -> str:
    """Return the override that adds a model n with a script of its own, or the script of m."""
    return f"models.n={{source: 'scripted:{run.folder / script}'}}"


def two(run: ScriptedRun, script: str = "script.json") -> list[str]:
    """Return the overrides that ask two models, each on a GPU of its own."""
    return [second_model(run, script), "voters.other={model: n}", "gpus=2xT4"]


def spans(run: ScriptedRun) -> list[tuple[float, float]]:
    """Return when the first and the last question of each model was begun; each model has answered all of them."""
    found = []
    for pool in ("m", "n"):
        rows = run.answers(pool)
        assert len({row["task_id"] for row in rows}) == len(rows) == QUESTIONS
        found.append((min(row["started"] for row in rows), max(row["started"] for row in rows)))
    return found


def test_two_models_answer_at_once(run: ScriptedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither goes on after its first answers before the other has its first."""
    both, seen, advance = threading.Barrier(2, timeout=300), set[LiveProgress](), LiveProgress.advance

    def meet(progress: LiveProgress, done: int, failed: int) -> None:
        advance(progress, done, failed)
        if progress not in seen:
            seen.add(progress)
            both.wait()

    monkeypatch.setattr(LiveProgress, "advance", meet)
    done = run.run(*two(run))
    assert done.code == 0, done.err
    assert "m, n: side by side, there is room for all of them" in done.out
    spans(run)
    assert run.report()["voters"].keys() == {"direct", "other"}
    assert run.run(*two(run)).out.count("nothing left to ask") == 2


def test_without_room_one_answers_after_the_other(run: ScriptedRun) -> None:
    done = run.run(*two(run)[:-1], "gpus=1xT4")
    assert done.code == 0, done.err
    assert "side by side" not in done.out
    (_, m_last), (n_first, _) = spans(run)
    assert m_last < n_first


def test_a_model_that_waits_for_another_comes_after_it(run: ScriptedRun) -> None:
    waits = "voters.other={model: n, when: {margin_below: 1, of: [direct]}}"
    done = run.run(second_model(run), waits, "gpus=2xT4")
    assert done.code == 0, done.err
    assert "side by side" not in done.out
    (_, m_last), (n_first, _) = spans(run)
    assert m_last < n_first


@pytest.mark.soak
def test_a_mistake_in_one_ends_both(run: ScriptedRun) -> None:
    """As a process: its end is what ends the other."""
    run.script = {"seconds": 1}
    (run.folder / "other.json").write_text('{"rejected": "the letter A is not one token"}')
    done = run.run_process(*two(run, "other.json"), *SLOW)
    assert done.code == 2
    assert done.err == "error: the letter A is not one token\n"
    assert len(run.durable()) < QUESTIONS


@pytest.mark.soak
def test_ctrl_c_ends_both_and_the_same_command_goes_on(run: ScriptedRun) -> None:
    """And while a run goes on, another one of the same directory is refused."""
    run.script = {"seconds": 1}
    process = run.start(*two(run), *SLOW)
    run.wait_for_some(process)
    second = run.run(*two(run), *SLOW)
    assert (second.code, second.err.count("\n")) == (2, 1)
    assert "another run is writing" in second.err
    process.send_signal(signal.SIGINT)
    first = finish(process)
    assert first.code == 130, first.err
    assert "Stopped. What was answered is kept; to continue: python jobs/answer.py" in first.err
    assert "Traceback" not in first.err
    assert 0 < len(run.durable()) < QUESTIONS
    run.script = {}
    again = run.run(*two(run))
    assert again.code == 0, again.err
    assert "answers are here already" in again.out
    spans(run)
