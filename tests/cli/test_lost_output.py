"""Jobs whose output cannot be written: closed by the shell, or on a full disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hostile import recipe
from tests.support.processes import Run
from tests.support.ray import plain_environment
from tests.support.runs import ROOT, job

FULL = "not finished: the output cannot be written: No space left on device\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recipe of a run that has ended."""
    given = recipe(tmp_path_factory.mktemp("finished"))
    done = job("run", given)
    assert done.code == 0, done.err
    return given


def shell(name: str, arguments: str, redirections: str, folder: Path) -> Run:
    """Run a job by a shell, with stderr in a file where `redirections` says nothing of it."""
    command = f"{sys.executable} {ROOT}/jobs/{name}.py {arguments} 2>err {redirections}"
    process = subprocess.run(["sh", "-c", command], cwd=folder, env=plain_environment(), stdout=subprocess.PIPE)
    return Run(process.returncode, process.stdout.decode(), (folder / "err").read_text())


@pytest.mark.parametrize(
    ("redirections", "code", "err"),
    [(">/dev/full", 1, FULL), ("<&- >&- 2>&-", 0, "")],
)
def test_a_run_goes_on_without_its_output(
    finished: str, redirections: str, code: int, err: str, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = shell("run", f"{finished} out={out}", redirections, tmp_path)
    assert (done.code, done.out, done.err) == (code, "", err)
    assert (out / "submission.csv").read_text() == "task_id,answer\na,A\n"
    assert (out / "report.json").exists()


@pytest.mark.parametrize(
    ("option", "redirections", "code", "end"),
    [("", ">&-", 0, ""), ("--json", ">/dev/full", 1, FULL)],
)
def test_so_does_a_report(finished: str, option: str, redirections: str, code: int, end: str, tmp_path: Path) -> None:
    run = Path(finished).parent / "run"
    done = shell("report", f"{run} {option}", redirections, tmp_path)
    assert (done.code, done.out) == (code, "")
    assert done.err.endswith(end)
    assert "Traceback" not in done.err
    assert option or done.err == end


def test_a_mistake_that_cannot_be_said_is_2(tmp_path: Path) -> None:
    assert shell("report", "nowhere", "2>/dev/full", tmp_path).code == 2
