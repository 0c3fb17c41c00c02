"""The command line every job shares: exit codes, one line of JSON, one line for a mistake."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from codemmlu.cli import dry_run
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.main import main
from codemmlu.engine.placement.gpus import Node, Resources
from codemmlu.errors import EngineDied, UserError
from tests.support.processes import descendants, is_alive
from tests.support.ray import plain_environment

RECIPE = "out: runs/x\nmodels: {m: {source: embedded}}\nvoters: {one: {model: m}}\n"
REPORT = {"questions": 3, "text": "two\nlines, é"}


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """A recipe's path."""
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return str(path)


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """`main` takes over SIGTERM and SIGINT; pytest gets its own back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def fine(job: JobContext) -> Outcome:
    job.terminal.say("working")
    return Outcome(REPORT, 0)


def some_failed(job: JobContext) -> Outcome:
    return Outcome(REPORT, 2)


def raises(error: BaseException) -> Callable[[JobContext], Outcome]:
    def step(job: JobContext) -> Outcome:
        raise error

    return step


def terminated(job: JobContext) -> Outcome:
    os.kill(os.getpid(), signal.SIGTERM)
    raise AssertionError("nothing stopped it")


def test_done_is_0(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("answer", "", fine, [recipe]) == 0
    assert capsys.readouterr() == ("working\n", "")


def test_some_rows_failed_is_1(recipe: str) -> None:
    assert main("answer", "", some_failed, [recipe]) == 1


def test_a_mistake_is_2_in_one_line_that_steers_no_terminal(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("answer", "", raises(UserError("models: no \x1b[31m\nthere")), [recipe]) == 2
    assert capsys.readouterr() == ("", "error: models: no \\x1b[31m\\nthere\n")


def test_engines_that_died_are_1_and_the_command_continues(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("answer", "", raises(EngineDied("gone\nfor good")), [recipe, "seed=1"]) == 1
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert (out, first) == ("", "not finished: gone\\nfor good")
    assert last.endswith(f"to continue: python jobs/answer.py {recipe} seed=1")


@pytest.mark.parametrize("step", [raises(KeyboardInterrupt()), terminated])
def test_stopped_is_130_and_the_command_continues(
    step: Callable[[JobContext], Outcome], recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("run", "", step, [recipe]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip() == f"Stopped. What was answered is kept; to continue: python jobs/run.py {recipe}"


def test_a_bug_keeps_its_traceback(recipe: str) -> None:
    with pytest.raises(ZeroDivisionError):
        main("answer", "", raises(ZeroDivisionError()), [recipe])


@pytest.mark.parametrize("step", [fine, some_failed])
def test_json_is_exactly_one_line_on_stdout(
    step: Callable[[JobContext], Outcome], recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def talking(job: JobContext) -> Outcome:
        print("a library says something")
        return step(job)

    main("answer", "", talking, [recipe, "--json"])
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert json.loads(out) == REPORT
    assert "a library says something\n" in err


@pytest.mark.parametrize("error", [UserError("x"), EngineDied("x"), KeyboardInterrupt()])
def test_json_is_nothing_where_there_is_no_report(
    error: BaseException, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("answer", "", raises(error), [recipe, "--json"]) != 0
    assert capsys.readouterr().out == ""


def given(arguments: list[str]) -> JobContext:
    """What the step is given."""
    jobs: list[JobContext] = []

    def step(job: JobContext) -> Outcome:
        jobs.append(job)
        return Outcome({}, 0)

    assert main("answer", "", step, arguments) == 0
    return jobs[0]


def test_options_may_stand_anywhere(recipe: str) -> None:
    planned: list[JobContext] = []

    def plan(job: JobContext) -> Outcome:
        planned.append(job)
        return Outcome({}, 0)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(dry_run, "plan", plan)
        arguments = ["--dry-run", recipe, "seed=4", "--gpus", "2xT4", "out=elsewhere"]
        assert main("answer", "", raises(AssertionError("the step is run")), arguments) == 0
    (job,) = planned
    assert job.hardware == Resources((Node(2, "T4"),))
    assert (job.recipe.seed, job.recipe.out) == (4, "elsewhere")
    assert given([recipe]).hardware is None


def test_the_command_to_type_again_is_the_one_that_was_typed(recipe: str) -> None:
    overrides = ["questions.source=my file.csv", "voters=[one]", "submission.blank=", "models.m.source=$HOME/'x'"]
    again = given([recipe, *overrides]).command()
    assert shlex.split(again) == ["python", "jobs/answer.py", recipe, *overrides]


def test_simulated_hardware_starts_nothing(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("answer", "", raises(AssertionError()), [recipe, "--gpus", "2xT4"]) == 2
    assert capsys.readouterr().err == "error: --gpus plans for hardware that is not here: add --dry-run\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--dry-run", "--gpus", "many"],
            "error: --gpus 'many': write how many of which kind: 2xT4, 4x4xL4 (nodes first), 1xT4+8xH100\n",
        ),
        (["sed=1"], "sed: there is no such key\n"),
        (["seed"], "error: 'seed': an override is written key.path=value, for example questions.limit=100\n"),
    ],
)
def test_a_wrong_command_is_said_before_anything_runs(
    arguments: list[str], says: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("answer", "", raises(AssertionError()), [recipe, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(says)
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["--drx"], ["--dry"], ["--gpus"]])
def test_what_is_no_command_at_all_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main("answer", "", raises(AssertionError()), arguments)
    assert error.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_ctrl_c_ends_a_process_with_130_although_a_thread_waits_for_ray(recipe: str) -> None:
    """Ray's own shutdown would end it with 1 in half of the cases: the thread is in the core without a pause."""
    code = f"""
from codemmlu.cluster.environment import configure
configure()
import threading
import ray
from codemmlu.cli import dry_run
from codemmlu.cli.main import exit_with, main
from codemmlu.cluster import session
def step(job):
    session.join()
    ref = ray.remote(num_cpus=0)(lambda: threading.Event().wait()).remote()
    core = ray._private.worker.global_worker.core_worker
    def wait():
        while True:
            core.wait([ref], 1, 10, True)
    threading.Thread(target=wait, daemon=True).start()
    print("started", flush=True)
    threading.Event().wait()
exit_with(main("answer", "", step, [{recipe!r}]))
"""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = psutil.Popen([sys.executable, "-c", code], env=plain_environment(), **pipes)
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    below = descendants(process)
    assert below
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.startswith("\nStopped. ")
    assert err.count("\n") == 2
    assert not [child for child in below if is_alive(child.pid)]
