"""`ray job submit` to a cluster that `ray start --head` made, as the README has it."""

import csv
import json
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ACTIVATED, RAY, head_node
from tests.runs import ROOT
from tests.test_readme import CSV

pytestmark = pytest.mark.soak
COUNT = 12

# As the README says, and whether the home directory has a token from another Ray or not: where it has one, `ray start`
# asks for it by itself and `ray job submit` does not send it.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """A head node with its dashboard, which takes the jobs."""
    with head_node(environment=TOKEN):
        yield "http://127.0.0.1:8265"


def submit(address: str, *command: str) -> "subprocess.CompletedProcess[str]":
    line = [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *command]
    return subprocess.run(line, cwd=ROOT, env=ACTIVATED | TOKEN, capture_output=True, text=True, timeout=600)


def test_submitted_job(dashboard: str, tmp_path: Path) -> None:
    """Of a person's own questions."""
    (tmp_path / "my.csv").write_text("".join(CSV.splitlines(keepends=True)[: 1 + COUNT]))
    run = ["python", "jobs/run.py", "recipes/demo.yaml", f"questions.source={tmp_path}/my.csv"]
    refused = submit(dashboard, *run)
    assert "out: runs/demo is relative" in refused.stdout + refused.stderr
    done = submit(dashboard, *run, f"out={tmp_path}/run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{COUNT} questions from {tmp_path}/my.csv" in done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["voters"]["direct"]["answered"] == COUNT
    with open(tmp_path / "run" / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task_id"] for row in rows] == [f"q{i}" for i in range(COUNT)]
    assert all(row["answer"] in "ABC" for row in rows)


def test_submitted_job_makes_its_own_index(dashboard: str, tmp_path: Path) -> None:
    done = submit(dashboard, "python", "jobs/run.py", "recipes/retrieve.yaml", f"out={tmp_path}/run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "examples: an index of 100" in done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["voters"]["retrieve"]["answered"] == report["questions"] == 44
    assert json.loads((tmp_path / "run" / "index" / "manifest.json").read_text())["count"] == 100
