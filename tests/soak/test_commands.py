"""The README's commands that need no GPU and no network, run for real."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runs import ROOT, job
from tests.test_readme import CSV

pytestmark = pytest.mark.soak
COUNT = 12


def test_own_questions(tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("".join(CSV.splitlines(keepends=True)[: 1 + COUNT]))
    done = job("run", "recipes/demo.yaml", f"questions.source={tmp_path}/my.csv", f"out={tmp_path}/mine")
    assert done.code == 0, done.err
    with open(tmp_path / "mine" / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["task_id"] for row in rows] == [f"q{i}" for i in range(COUNT)]
    assert all(row["answer"] in "ABC" for row in rows)


def test_throughput_benchmark() -> None:
    """That it runs and says what it promises; how fast, nobody can tell on a machine that tests."""
    command = [sys.executable, "benchmarks/throughput.py", "--limit", str(COUNT), "--rounds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["questions"] == COUNT
    assert all(figures[way] > 0 for way in ("floor", "ours", "reference", "ratio"))
