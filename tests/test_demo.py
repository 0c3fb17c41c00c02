"""The demo as the README has it, and what it leaves behind: the whole way through Ray and a real engine."""

import csv
import json
from pathlib import Path

import pytest

from tests.runs import job

pytestmark = pytest.mark.engine


def test_demo(tmp_path: Path) -> None:
    done = job("run", "recipes/demo.yaml", f"out={tmp_path}/demo", "--json")
    assert done.code == 0, done.err
    (line,) = done.out.splitlines()
    report = json.loads(line)
    assert report == json.loads((tmp_path / "demo" / "report.json").read_text())
    voter = report["voters"]["direct"]
    assert (report["questions"], voter["answered"], voter["failed"]) == (144, 144, 0)
    assert 0.3 < voter["letter_mass"] <= 1
    assert voter["interval"][0] <= voter["accuracy"] <= voter["interval"][1]
    with open(tmp_path / "demo" / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 144
    assert {row["answer"] for row in rows} <= set("ABCDEF")
