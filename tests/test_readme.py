"""The README's commands have a plan. Its `make` and `ray` lines are run by .ci/run and tests/soak/test_submit.py."""

import shlex
from pathlib import Path

import pytest

from codemmlu.engine.gguf import embedded_file
from codemmlu.engine.sources import cache_folder, materialise
from tests.runs import ROOT, job

# The Hub's is in tests/questions/test_hub.py; comparing runs, which plans nothing, in tests/test_vote.py.
ELSEWHERE = ("Fsoft-AIC/CodeMMLU", "jobs/report.py")
COMMANDS = [
    line.strip()
    for line in (ROOT / "README.md").read_text().splitlines()
    if line.startswith("    python jobs/") and not any(name in line for name in ELSEWHERE)
]
CSV = "task_id,question,choices,answer\n" + "".join(
    f"q{i},What is {i} + {i}?,\"['{2 * i}', '{3 * i + 1}', 'neither']\",A\n" for i in range(120)
)


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 6


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_a_plan(command: str, tmp_path: Path) -> None:
    for name in ("my.csv", "solved.csv"):
        (tmp_path / name).write_text(CSV)
    there = {
        "my.csv": str(tmp_path / "my.csv"),
        "solved.csv": str(tmp_path / "solved.csv"),
        "/models/my-model": materialise("embedded", cache_folder()),
        "my-model.gguf": str(embedded_file(Path(cache_folder()))),
    }
    for named, real in there.items():
        command = command.replace(f"={named}", f"={real}")
    _, script, *arguments = shlex.split(command)
    arguments += [] if "--dry-run" in arguments else ["--dry-run"]
    done = job(Path(script).stem, *arguments)
    assert done.code == 0, done.err
    assert "Nothing was started" in done.out


def test_no_blank_is_left_to_fill() -> None:
    words = (ROOT / "README.md").read_text().replace("`", " ").split()
    assert not {"FLOOR", "OURS", "RATIO", "REFERENCE", "TODO"} & set(words)
