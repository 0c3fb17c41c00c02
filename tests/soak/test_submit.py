"""`ray job submit` to a cluster that `ray start --head` made, as the README has it."""

import json
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.questions import questions_csv
from tests.support.ray import ACTIVATED, RAY, head_node
from tests.support.runs import ROOT

pytestmark = pytest.mark.soak
COUNT, SOLVED = 12, 30

# As the README says, and whether the home directory has a token from another Ray or not: where it has one, `ray start`
# asks for it by itself and `ray job submit` does not send it.
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


@pytest.fixture
def dashboard() -> Iterator[str]:
    """A head node with its dashboard, which takes the jobs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with head_node(f"--dashboard-port={port}", environment=TOKEN):
        yield f"http://127.0.0.1:{port}"


def submit(address: str, *command: str) -> "subprocess.CompletedProcess[str]":
    line = [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *command]
    return subprocess.run(line, cwd=ROOT, env=ACTIVATED | TOKEN, capture_output=True, text=True, timeout=600)


def test_a_submitted_job_answers_the_users_own_questions(dashboard: str, tmp_path: Path) -> None:
    """With an index that the job makes itself. An `out` that Ray would delete is refused."""
    source = questions_csv(tmp_path / "my.csv", COUNT)
    solved = questions_csv(tmp_path / "solved.csv", SOLVED, text="#s{i} what is right?")
    run = ["python", "jobs/run.py", "recipes/demo.yaml", f"questions.source={source}", "models.smol.source=scripted"]
    run += [f"examples={{source: {solved}, embedder: {{source: hashing}}}}", "voters.near={method: retrieve}"]
    refused = submit(dashboard, *run)
    assert refused.returncode != 0
    assert "out: runs/demo is relative" in refused.stdout + refused.stderr
    done = submit(dashboard, *run, f"out={tmp_path}/run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{COUNT} questions from {source}" in done.stdout
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["voters"]["direct"]["answered"] == COUNT
    assert report["voters"]["near"]["answered"] == COUNT
    assert json.loads((tmp_path / "run" / "index" / "manifest.json").read_text())["count"] == SOLVED
    rows = [line.split(",") for line in (tmp_path / "run" / "submission.csv").read_text().splitlines()]
    assert [name for name, _ in rows] == ["task_id", *(f"q{i}" for i in range(COUNT))]
    assert all(letter in tuple("ABC") for _, letter in rows[1:])
