"""The demo as the README has it, and what it leaves behind: the whole way through Ray and a real engine."""

import csv
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.runs import ROOT

pytestmark = pytest.mark.engine


def masked(text: str) -> set[str]:
    """Lines without what differs between machines: numbers, paths, the width of columns."""
    return {" ".join(re.sub(r"/\S+|[\d.,]+", "#", line).split()) for line in text.splitlines()}


def test_demo(tmp_path: Path) -> None:
    command = ["make", "--no-print-directory", "demo", f"ARGS=out={tmp_path}/demo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    shown = (ROOT / "README.md").read_text().split("```")[1]
    lasting = {line for line in masked(shown) if "questions/s" not in line}  # how often that is said depends
    assert lasting <= masked(done.stdout), "the README shows what the demo does not print"
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    voter = report["voters"]["direct"]
    assert (report["questions"], voter["answered"], voter["failed"]) == (144, 144, 0)
    assert 0.3 < voter["letter_mass"] <= 1
    assert voter["interval"][0] <= voter["accuracy"] <= voter["interval"][1]
    with open(tmp_path / "demo" / "submission.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 144
    assert {row["answer"] for row in rows} <= set("ABCDEF")
