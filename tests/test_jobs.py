"""Runs of the jobs: exit codes, what they write, and what a second run asks. The engine is scripted."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from codemmlu.cluster import session
from tests.support.processes import finish
from tests.support.questions import append_csv
from tests.support.runs import ScriptedRun, job, start_job

FEW = "questions.limit=10"


@pytest.fixture(scope="module")
def finished(ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> ScriptedRun:
    """A run of the first ten of 30 questions. Tests use copies of it."""
    run = ScriptedRun(tmp_path_factory.mktemp("finished"), 30)
    done = run.run(FEW)
    assert done.code == 0, done.err
    return run


@pytest.fixture
def copy(finished: ScriptedRun, tmp_path: Path) -> ScriptedRun:
    """A copy of the finished run; `times_asked` counts only what the copy asks."""
    run = ScriptedRun(tmp_path, finished.questions)
    shutil.copytree(finished.out, run.out)
    return run


def all_of(run: ScriptedRun) -> list[str]:
    """Return the task_id of every question."""
    return sorted(f"q{i}" for i in range(run.questions))


def test_whole_run(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """The second run is a process: only there can a library write on the stdout that --json keeps for itself."""
    run = ScriptedRun(tmp_path, 40, {"too_long": ["#q7 "], "breaks": ["#q9 "]}, environment=ray_cluster)
    append_csv(run.csv, ("short", "Only one choice?", ["this"], "A"), ("q3", "Repeated?", ["a", "b"], "A"))
    append_csv(run.csv, ("last", "#q-last", ["a", "b"], "B"))
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

    again = run.run_process("--json")  # only what failed is asked again
    assert again.code == 1
    (line,) = again.out.splitlines()
    assert json.loads(line) == run.report()
    assert "39 answers are here already" in again.err
    assert "2 questions failed before and are asked again" in again.err
    asked = run.times_asked()
    assert {line for line, times in asked.items() if times > 1} == {"#q7 which is it?", "#q9 which is it?"}
    assert run.report()["voters"]["direct"]["answered"] == 39


def test_nothing_left_starts_nothing(copy: ScriptedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def joined(*_: object) -> None:
        raise AssertionError("Ray was looked for")

    monkeypatch.setattr(session, "join", joined)
    again = copy.run(FEW)
    assert again.code == 0, again.err
    assert "nothing left to ask, no engine is started" in again.out
    assert not copy.times_asked()


def test_more_asks_only_what_is_new(copy: ScriptedRun) -> None:
    assert copy.run("voters.second={model: m, template: reference}").code == 0
    assert copy.times_asked().total() == 20 + 30
    assert set(copy.report()["voters"]) == {"direct", "second"}
    # A voter that asks what another one asked has nothing new to ask.
    assert "no engine is started" in copy.run("voters.third={model: m}").out
    # An old answer never shows through a changed question.
    copy.csv.write_text(copy.csv.read_text().replace("those", "them"))
    assert copy.run().code == 0
    assert copy.times_asked().total() == 20 + 30 + 30


def test_a_mistake_leaves_a_finished_run_as_it_was(copy: ScriptedRun) -> None:
    def files() -> dict[str, bytes]:
        found = (file for file in copy.out.rglob("*") if file.is_file() and file.name not in (".issue", ".lock"))
        return {str(file): file.read_bytes() for file in found if "questions.new" not in str(file)}

    before = files()
    for mistake in ("questions.source=typo.csv", "models.m.source=/no/model", "voters.direct.adapter=/no/adapter"):
        assert copy.run(FEW, mistake).code == 2
        assert files() == before
    assert copy.run(FEW).code == 0
    assert not (copy.out / "questions.new").exists()


def test_a_cluster_that_is_gone_is_one_line(
    tmp_path: Path, ray_cluster: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(session, "_PATIENCE", 0)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    done = ScriptedRun(tmp_path, 1).run()
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "no Ray cluster answers at 127.0.0.1:1 ([Errno 111] Connection refused)" in done.err  # Ray says it otherwise


def test_dead_engine_is_replaced(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """An engine that dies once costs a restart; the run finishes at once."""
    run = ScriptedRun(tmp_path, 100, {"kills_once": str(tmp_path / "died"), "kills_engine": ["#q30 "]})
    done = run.run()
    assert done.code == 0, done.err
    assert len(run.by_engine()) == 2
    assert sorted(run.durable()) == all_of(run)


def test_an_engine_that_never_starts_is_a_mistake(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    run = ScriptedRun(tmp_path, 20, {"fails_to_open": [str(tmp_path / "opened"), 1]})
    done = run.run()
    assert (done.code, done.err) == (2, "error: scripted: this engine cannot start\n")


def test_a_rejected_model_is_the_users_mistake(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    done = ScriptedRun(tmp_path, 10, {"rejected": "m: the letter A is not one token"}).run()
    assert (done.code, done.err) == (2, "error: m: the letter A is not one token\n")


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
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert says in done.err


@pytest.mark.parametrize("name", ["answer", "finetune", "index", "report", "run", "vote"])
def test_every_job_says_a_mistake_in_one_line(name: str) -> None:
    """As a process: what is imported prints nothing, and the exit code comes out."""
    done = finish(start_job(name, "nowhere"))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert "nowhere" in done.err


def test_relative_out_under_job_submit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    done = job("run", "recipes/demo.yaml")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "out: runs/demo is relative" in done.err
