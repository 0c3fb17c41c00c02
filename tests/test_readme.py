"""Every command of the README and of docs/: those of this project are run, and of every other it is said what runs it.

The files that the commands name lie where they say, in a folder from which they are run.
"""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from codemmlu.cli.commands import COMMANDS as OURS
from codemmlu.engine.gguf import embedded_file
from codemmlu.engine.model_source import cache_folder, resolve
from tests.support.processes import Run
from tests.support.questions import questions_csv
from tests.support.runs import ROOT, installed, job

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Without what stands in fences: the demo's output, see tests/soak/test_demo.py.
TEXT = re.sub(r"^```.*?^```", "", "\n\n".join(map(Path.read_text, DOCUMENTS)), flags=re.DOTALL | re.MULTILINE)
BLOCKS = [block for block in re.split(r"\n\s*\n", TEXT) if all(line.startswith("    ") for line in block.splitlines())]
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
OF_JOBS = [line[line.index("python jobs/") :] for line in LINES if "python jobs/" in line]
INSTALLED = [line for line in LINES if line.startswith("codemmlu ")]
# A command that stands on several pages is run once.
COMMANDS = [*dict.fromkeys(OF_JOBS + INSTALLED)]
# Commands of others, by how they begin, and what runs them.
OTHERS = {
    "make demo": "tests/soak/test_demo.py",
    "make setup": ".ci/run",
    "make check": ".ci/run",
    "make test": ".ci/run",
    "make soak": ".ci/run",
    "source .venv/bin/activate": "tests/soak/test_submit.py",
    "uv pip install": "tests/soak/test_wheel.py",
    "export RAY_AUTH_MODE=token": "tests/soak/test_submit.py",
    "ray get-auth-token --generate": "tests/soak/test_submit.py",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 ray start --head": "tests/soak/test_submit.py",
}
BEGINNINGS = ("codemmlu ", "python ", "ray ", *OTHERS)
STARTS_NOTHING = ("report", "check", "init", "doctor", "--print-completion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the commands name by a relative path."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    solved = questions_csv(folder / "solved.csv", 120, text="What is {i} and {i}?", choices=("{i}", "2{i}", "neither"))
    (folder / "my.csv").symlink_to(solved)
    # A folder of that name is taken for it; the Hub itself is in tests/dataset/test_hub.py.
    hub = folder / "Fsoft-AIC" / "CodeMMLU"
    hub.mkdir(parents=True)
    row = {"task_id": "k1", "question": "?", "choices": ["a", "b"], "subject": "dbms_sql"}
    (hub / "test.jsonl").write_text(json.dumps(row))
    # Two runs to compare, of another system's answers.
    recipe = folder / "theirs.yaml"
    recipe.write_text("voters: {theirs: {method: submission, source: solved.csv}}\nquestions: {source: solved.csv}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("one", "other"):
            done = job("vote", "theirs.yaml", f"out=runs/{name}")
            assert done.code == 0, done.err
    return folder


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in that folder, without the Hub: what is written down of the recipes' models has to do."""

    def asked(*_: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("codemmlu.engine.model_source._on_hub", asked)
    monkeypatch.chdir(folder)
    (folder / "my.yaml").unlink(missing_ok=True)


def name_of(command: str) -> str:
    """Return which of this project's commands it is."""
    first, second, *_ = shlex.split(command)
    return second if first == "codemmlu" else Path(second).stem


def run(command: str) -> Run:
    """Run a command without starting anything."""
    # The embedded model, as a directory and as a file, stands for a user's own.
    command = command.replace("/models/my-model", resolve("embedded", cache_folder()))
    command = command.replace("my-model.gguf", str(embedded_file(Path(cache_folder()))))
    name, (start, _, *arguments) = name_of(command), shlex.split(command)
    if name not in STARTS_NOTHING and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    return installed(name, *arguments) if start == "codemmlu" else job(name, *arguments)


def output(command: str) -> str:
    """Run a command without starting anything, and return what it prints."""
    done = run(command)
    assert done.code == 0, done.err
    return done.out


def test_no_command_is_skipped() -> None:
    """What is found is all there is, and it is of a kind that is run here or named above."""
    assert len(OF_JOBS) == len(re.findall(r"^    .*python jobs/", TEXT, re.MULTILINE)) >= 2
    assert len(COMMANDS) >= 25
    assert {name_of(command) for command in COMMANDS} <= {*OURS, "--print-completion"}
    begun = [block.strip() for block in BLOCKS if block.strip().startswith(BEGINNINGS)]
    lines = [line.strip() for block in begun for line in block.splitlines()]
    others = [line for line in lines if line not in INSTALLED and "python jobs/" not in line]
    assert [line for line in others if not line.startswith((*OTHERS, "python docs/"))] == []
    assert [start for start in OTHERS if not any(line.startswith(start) for line in others)] == []
    assert [file for file in OTHERS.values() if not (ROOT / file).exists()] == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_a_plan(command: str) -> None:
    assert ("Nothing was started" in output(command)) == (name_of(command) not in STARTS_NOTHING)


@pytest.mark.usefixtures("here")
def test_what_a_command_is_shown_to_print_it_prints() -> None:
    shown = [(before, after) for before, after in pairwise(BLOCKS) if not after.strip().startswith(BEGINNINGS)]
    assert shown
    for before, after in shown:
        printed = output(before.splitlines()[-1].strip())
        assert " ".join(after.split()) in " ".join(printed.split())


def test_commands_in_a_line_name_what_is_there() -> None:
    """`codemmlu vote` and its like, between other words."""
    named = set(re.findall(r"`codemmlu ([a-z]+)", TEXT))
    assert named <= OURS.keys()
    recipes = set(re.findall(r"codemmlu (?:run|vote|index|finetune|answer) ([a-z][\w.-]*)\b", TEXT)) - {"my.yaml"}
    assert len(recipes) >= 8
    assert [name for name in sorted(recipes) if not (ROOT / "recipes" / f"{name}.yaml").is_file()] == []


def test_files_that_are_named_exist() -> None:
    named = set(re.findall(r"(?<![\w/])(?:jobs|recipes|benchmarks|deploy|docs|codemmlu|tests)/[\w./-]+\.\w+", TEXT))
    assert len(named) >= 20
    made = {"codemmlu/inference/methods/NAME.py", "jobs/NAME.py", "recipes/NAME.yaml"}
    assert [name for name in sorted(named - made) if not (ROOT / name).is_file()] == []


def test_make_targets_that_are_named_exist() -> None:
    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", TEXT, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "check", "soak", "wheel", "docs"} <= named <= targets


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
