"""The demo as the README has it, and what it leaves behind: the whole way through Ray and a real engine."""

import csv
import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset.files import SAMPLE
from tests.support.runs import ROOT

pytestmark = pytest.mark.soak

# Of the standard normal distribution: 2.5 % lie above.
Z = 1.959963984540054


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What `make demo` prints, and its run directory."""
    out = tmp_path_factory.mktemp("demo") / "run"
    command = ["make", "--no-print-directory", "demo", f"ARGS=out={out}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout, out


def masked(text: str) -> set[str]:
    """Lines without what differs between machines: numbers, spans of time, paths, the width of columns."""
    return {" ".join(re.sub(r"/\S+|(\d+ min )?[\d.,]+", "#", line).split()) for line in text.splitlines()}


def submitted(out: Path) -> dict[str, str]:
    """Return the answer to each question, as submission.csv has it."""
    with open(out / "submission.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["task_id", "answer"]
    return dict(rows[1:])


def labels() -> dict[str, str]:
    """Return the right answer to each question of the sample."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
    return {row["task_id"]: row["answer"] for row in rows}


def test_the_demo_prints_what_the_readme_shows(demo: tuple[str, Path]) -> None:
    shown = (ROOT / "README.md").read_text().split("```")[1]
    lasting = {line for line in masked(shown) if "questions/s" not in line}  # how often that is said depends
    assert lasting - masked(demo[0]) == set()


def test_every_question_of_the_sample_is_answered(demo: tuple[str, Path]) -> None:
    answers, right = submitted(demo[1]), labels()
    assert list(answers) == list(right), "in the order of the file"
    assert len(answers) == 144
    assert set(answers.values()) <= set("ABCDEF")
    voter = json.loads((demo[1] / "report.json").read_text())["voters"]["direct"]
    assert (voter["answered"], voter["abstained"], voter["failed"]) == (144, 0, 0)
    assert {letter: count for letter, count in voter["letters_said"].items() if count} == Counter(answers.values())
    assert 0.3 < voter["letter_mass"] <= 1


def test_the_accuracy_is_that_of_the_submission(demo: tuple[str, Path]) -> None:
    right = labels()
    share = sum(answer == right[task_id] for task_id, answer in submitted(demo[1]).items()) / 144
    voter = json.loads((demo[1] / "report.json").read_text())["voters"]["direct"]
    assert voter["accuracy"] == pytest.approx(share)
    # The ends of Wilson's interval are the shares p from which `share` lies Z standard errors away.
    low, high = voter["interval"]
    assert low < share < high
    for p in (low, high):
        assert (share - p) ** 2 == pytest.approx(Z**2 * p * (1 - p) / 144)
    assert f"direct answers {100 * share:.1f}% right (95 % interval {100 * low:.1f}% to {100 * high:.1f}%;" in demo[0]
