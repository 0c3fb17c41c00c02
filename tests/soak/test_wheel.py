"""The wheel, installed in a clean environment by the command of the README, answers the sample from another folder."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.runs import ROOT

pytestmark = pytest.mark.soak
COMMAND = next(line.strip() for line in (ROOT / "README.md").read_text().splitlines() if "uv pip install" in line)


def done(command: list[str], folder: Path, environment: dict[str, str], seconds: int) -> str:
    """Run a command and return what it prints."""
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    assert ended.returncode == 0, (command, ended.stdout[-2000:], ended.stderr[-4000:])
    return ended.stdout


def install(environment: dict[str, str]) -> list[str]:
    """Return the README's command, with this machine's indexes as in the Makefile."""
    uv, *words = shlex.split(COMMAND)
    folders = environment.get("PIP_FIND_LINKS", "").split()
    if any([*Path(folder).glob("torch-*+cpu-*.whl")] for folder in folders):
        at = words.index("--torch-backend")  # PyTorch's own index may be out of reach here.
        words = words[:at] + words[at + 2 :]
    index = environment.get("PIP_INDEX_URL")
    more = [word for folder in folders for word in ("--find-links", folder)]
    return [str(Path(sys.executable).with_name(uv)), *words, *more, *(["--default-index", index] if index else [])]


def test_the_wheel_runs_the_demo_elsewhere(tmp_path: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAY_", "VIRTUAL_"))}
    done(["make", "--no-print-directory", "wheel"], ROOT, plain, 300)
    venv, elsewhere = tmp_path / "venv", tmp_path / "elsewhere"
    elsewhere.mkdir()
    uv = str(Path(sys.executable).with_name("uv"))
    done([uv, "venv", "--quiet", "--python", sys.executable, str(venv)], elsewhere, plain, 60)
    done(install(plain), ROOT, plain | {"VIRTUAL_ENV": str(venv)}, 900)
    codemmlu = str(venv / "bin" / "codemmlu")
    assert "codemmlu-ray" in done([codemmlu, "--version"], elsewhere, plain, 60)
    printed = done([codemmlu, "run", "demo", "questions.limit=8", "out=run"], elsewhere, plain, 900)
    assert "codemmlu init my.csv" in printed
    report = json.loads((elsewhere / "run" / "report.json").read_text())
    assert report["vote"]["answered"] == 8
    assert (elsewhere / "run" / "report.html").is_file()
