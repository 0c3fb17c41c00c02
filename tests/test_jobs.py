"""The jobs as processes: exit codes, what they write, and what a second issue asks. The engine is scripted."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from codemmlu.answering.suspects import GIVEN_UP, REPLACEMENTS
from tests.runs import CountedRun, finish, job, kill


def test_whole_run(tmp_path: Path) -> None:
    run = CountedRun(tmp_path, 40, {"does_not_fit": ["#q7 "], "breaks": ["#q9 "]})
    with run.source.open("a") as file:
        file.write("short,Only one choice?,['this'],A\nq3,Repeated?,\"['a', 'b']\",A\nlast,#q-last,\"['a', 'b']\",B\n")
    done = run.run()
    assert done.code == 1, done.err  # two rows failed; the two rejected ones do not change the code
    assert "2 answers failed" in done.out
    assert "q7 (direct)" in done.out
    lines = list(csv.reader(run.submission()))
    assert lines[0] == ["task_id", "answer"]
    assert [line[0] for line in lines[1:]] == [*(f"q{i}" for i in range(40)), "short", "last"]
    assert {line[0] for line in lines[1:] if line[1] == ""} == {"q7", "q9", "short"}
    report = run.report()
    assert (report["questions"], report["labelled"], report["rejected"]) == (41, 41, 2)
    voter = report["voters"]["direct"]
    assert (voter["answered"], voter["abstained"], voter["failed"]) == (39, 0, 2)
    assert voter["accuracy"] == pytest.approx(38 / 39)  # the scripted engine says A; `last` has B
    assert voter["accuracy"] == voter["accuracy_answered"] == report["vote"]["accuracy"]
    assert {failure["task_id"] for failure in report["failures"]} == {"q7", "q9"}

    again = run.run("--json")  # only what failed is asked again
    assert again.code == 1
    (line,) = again.out.splitlines()
    assert json.loads(line) == run.report()
    assert "39 answers are here already" in again.err
    assert "2 questions failed before and are asked again" in again.err
    asked = run.times_asked()
    assert {line for line, times in asked.items() if times > 1} == {"#q7 which is it?", "#q9 which is it?"}
    assert run.report()["voters"]["direct"]["answered"] == 39


def test_nothing_left_starts_nothing_and_more_asks_only_what_is_new(tmp_path: Path, running_ray: None) -> None:
    run = CountedRun(tmp_path, 30, {})
    assert run.run("questions.limit=10").code == 0
    assert sum(run.times_asked().values()) == 10
    run.environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1"}  # nothing answers there
    again = run.run("questions.limit=10")
    assert again.code == 0, again.err  # so that no Ray was looked for
    assert "nothing left to ask, no engine is started" in again.out
    lost = run.run("questions.limit=11")  # which one more question does
    assert (lost.code, lost.err.count("\n")) == (2, 1)
    assert "no Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused)" in lost.err  # Ray says it otherwise
    run.environment = None
    assert run.run("voters.second={model: m, template: reference}").code == 0
    assert sum(run.times_asked().values()) == 60
    assert set(run.report()["voters"]) == {"direct", "second"}
    # one ask, two voters: nothing new to ask
    assert "no engine is started" in run.run("voters.third={model: m}").out
    # an old answer never shows through a changed recipe
    changed = run.source.read_text().replace("those", "them")
    run.source.write_text(changed)
    assert run.run().code == 0
    assert sum(run.times_asked().values()) == 90


def test_a_mistake_leaves_a_finished_run_as_it_was(tmp_path: Path, running_ray: None) -> None:
    run = CountedRun(tmp_path, 12, {})
    assert run.run().code == 0

    def files() -> dict[str, bytes]:
        seen = (file for file in run.out.rglob("*") if file.is_file() and file.name not in (".issue", ".lock"))
        return {str(file): file.read_bytes() for file in seen if "questions.new" not in str(file)}

    finished = files()
    for mistake in ("questions.source=typo.csv", "models.m.source=/no/model", "voters.direct.adapter=/no/adapter"):
        assert run.run(mistake).code == 2
        assert files() == finished
    assert run.run().code == 0
    assert not (run.out / "questions.new").exists()


def test_killed_driver_loses_and_doubles_nothing(tmp_path: Path, running_ray: None) -> None:
    run = CountedRun(tmp_path, 300, {"seconds": 0.4})
    process = run.start()
    run.wait_for_some(process)
    kill(process)
    process.communicate()
    durable, asked = len(set(run.durable())), len(run.times_asked())
    assert 0 < durable < 300
    done = run.run()
    assert done.code == 0, done.err
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(300))
    twice = sum(times > 1 for times in run.times_asked().values())
    assert twice <= asked - durable, "more was asked twice than was in flight"
    assert len(run.submission()) == 301


def test_second_live_run_is_refused(tmp_path: Path, running_ray: None) -> None:
    run = CountedRun(tmp_path, 200, {"seconds": 0.4})
    process = run.start()
    run.wait_for_some(process)
    second = run.run()
    assert second.code == 2
    assert len(second.err.strip().splitlines()) == 1
    assert "another run is writing" in second.err
    process.send_signal(signal.SIGINT)
    first = finish(process)
    assert first.code == 130
    assert "to continue: python jobs/answer.py" in first.err
    assert "Traceback" not in first.err


def test_dead_engine_is_replaced(tmp_path: Path, running_ray: None) -> None:
    """An engine that dies once costs a restart; the run finishes in one issue."""
    run = CountedRun(tmp_path, 100, {"dies_once": str(tmp_path / "died"), "dies": ["#q30 "]})
    done = run.run()
    assert done.code == 0, done.err
    assert (tmp_path / "died").exists()
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(100))


def test_an_engine_that_cannot_start_again_is_no_mistake_of_the_persons(tmp_path: Path, running_ray: None) -> None:
    """The first one answered: it is that machine's trouble, and another is tried."""
    dying = {"dies_once": str(tmp_path / "died"), "dies": ["#q5 "], "seconds": 0.1}  # short ones are asked last
    run = CountedRun(tmp_path, 100, {**dying, "unable": [str(tmp_path / "opened"), 2]})
    done = run.run("models.m.max_num_seqs=8")
    assert done.code == 0, done.err
    assert (tmp_path / "opened").read_text() == "...", "the second could not be opened, the third went on"
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(100))


def test_an_engine_that_never_starts_is_the_persons_mistake(tmp_path: Path, running_ray: None) -> None:
    run = CountedRun(tmp_path, 20, {"unable": [str(tmp_path / "opened"), 1]})
    done = run.run()
    assert (done.code, done.err) == (2, "error: scripted: this engine cannot start\n")


def test_what_kills_the_engine_each_time_is_given_up_and_all_else_is_answered(
    tmp_path: Path, running_ray: None
) -> None:
    """Of the engine's end the worker hears; of that of its own process nobody does."""
    run = CountedRun(tmp_path, 100, {"dies": ["#q5 ", "#q77 "], "killed": ["#q6 "], "seconds": 0.02})
    done = run.run()
    assert done.code == 1, done.err
    rows = run.answers()
    assert sorted(row["task_id"] for row in rows) == sorted(f"q{i}" for i in range(100)), "lost or doubled"
    failed = {row["task_id"]: row["error"] for row in rows if row["status"] == "failed"}
    assert failed.keys() == {"q5", "q6", "q77"}
    assert {GIVEN_UP} == set(failed.values())
    assert "q77" in done.out
    run.engine = {}
    again = run.run()
    assert again.code == 0, again.err
    assert "3 questions failed before and are asked again" in again.out


@pytest.mark.parametrize("dying", [{"dies": ["#q"]}, {"at_start": True}], ids=str)
def test_engines_that_die_without_an_answer_end_the_run(
    dying: dict[str, Any], tmp_path: Path, running_ray: None
) -> None:
    run = CountedRun(tmp_path, 30, dying)
    done = run.run()
    assert done.code == 1
    assert f"not finished: the run stopped: {REPLACEMENTS + 1} engines in a row died without one answer" in done.err
    assert "to continue:" in done.err
    assert run.answers() == []


def test_model_that_cannot_tell_letters_is_the_persons_mistake(tmp_path: Path, running_ray: None) -> None:
    done = CountedRun(tmp_path, 10, {"refused": "m: the letter A is not one token"}).run()
    assert done.code == 2
    assert done.err.strip() == "error: m: the letter A is not one token"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["recipes/none.yaml"], "recipes/none.yaml: the recipe cannot be read"),
        (["recipes/demo.yaml", "questions.sorce=x"], "questions.sorce: there is no such key"),
        (["recipes/demo.yaml", "questions.source=none.csv"], "questions.source: no file at none.csv"),
        (["recipes/demo.yaml", "models.smol.source=nowhere"], "models: nowhere is neither"),
        (["recipes/demo.yaml", "out=/proc/nowhere"], "out: /proc/nowhere cannot be written"),
        (["recipes/demo.yaml", "models.smol.engine.block=3"], "models.smol.engine.block: vLLM has no such"),
        (["recipes/demo.yaml", "--gpus", "many", "--dry-run"], "--gpus 'many'"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    out = [] if any(argument.startswith("out=") for argument in arguments) else [f"out={tmp_path}"]
    done = job("run", *arguments, *out)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert says in done.err


def test_relative_out_under_job_submit(tmp_path: Path) -> None:
    done = job("run", "recipes/demo.yaml", env={"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}, cwd=Path(__file__).parents[1])
    assert done.code == 2
    assert "out: runs/demo is relative" in done.err
