"""Every command of the README and of docs/: those that call a job are run, and of every other it is said what runs it.

The files that the commands name lie where they say, in a folder from which they are run.
"""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from codemmlu.engine.gguf import embedded_file
from codemmlu.engine.model_source import cache_folder, resolve
from tests.support.questions import questions_csv
from tests.support.runs import ROOT, job

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Without what stands in fences: the demo's output, see tests/soak/test_demo.py.
TEXT = re.sub(r"^```.*?^```", "", "\n\n".join(map(Path.read_text, DOCUMENTS)), flags=re.DOTALL | re.MULTILINE)
BLOCKS = [block for block in re.split(r"\n\s*\n", TEXT) if all(line.startswith("    ") for line in block.splitlines())]
LINES = [line.strip() for block in BLOCKS for line in block.splitlines()]
COMMANDS = [line[line.index("python jobs/") :] for line in LINES if "python jobs/" in line]
# Commands that call no job, by how they begin, and what runs them.
OTHERS = {
    "make demo": "tests/soak/test_demo.py",
    "make test": ".ci/run",
    "export RAY_AUTH_MODE=token": "tests/soak/test_submit.py",
    "ray get-auth-token --generate": "tests/soak/test_submit.py",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 ray start --head": "tests/soak/test_submit.py",
}
BEGINNINGS = ("python ", "ray ", *OTHERS)


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


def output(command: str) -> str:
    """Run a command without starting anything, and return what it prints."""
    # The embedded model, as a directory and as a file, stands for a person's own.
    command = command.replace("/models/my-model", resolve("embedded", cache_folder()))
    command = command.replace("my-model.gguf", str(embedded_file(Path(cache_folder()))))
    _, script, *arguments = shlex.split(command)
    name = Path(script).stem
    if name not in ("report", "check") and "--dry-run" not in arguments:
        arguments.append("--dry-run")
    done = job(name, *arguments)
    assert done.code == 0, done.err
    return done.out


def test_no_command_is_skipped() -> None:
    """What is found is all there is, and it is of a kind that is run here or named above."""
    assert len(COMMANDS) == TEXT.count("python jobs/") >= 19
    begun = [block.strip() for block in BLOCKS if block.strip().startswith(BEGINNINGS)]
    lines = [line.strip() for block in begun for line in block.splitlines()]
    others = [line for line in lines if "python jobs/" not in line]
    assert [line for line in others if not line.startswith(tuple(OTHERS))] == []
    assert [start for start in OTHERS if not any(line.startswith(start) for line in others)] == []
    assert [file for file in OTHERS.values() if not (ROOT / file).exists()] == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_a_plan(command: str) -> None:
    said = output(command)
    assert ("Nothing was started" in said) == (Path(shlex.split(command)[1]).stem not in ("report", "check"))


@pytest.mark.usefixtures("here")
def test_what_a_command_is_shown_to_print_it_prints() -> None:
    shown = [(before, after) for before, after in pairwise(BLOCKS) if not after.strip().startswith(BEGINNINGS)]
    assert shown
    for before, after in shown:
        printed = output(before.splitlines()[-1].strip())
        assert " ".join(after.split()) in " ".join(printed.split())


def test_files_that_are_named_exist() -> None:
    named = set(re.findall(r"(?:jobs|recipes|benchmarks|deploy|docs|codemmlu)/[\w./-]+\.\w+", TEXT))
    assert len(named) >= 20
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_make_targets_that_are_named_exist() -> None:
    named = set(re.findall(r"(?:`|^    )make ([a-z]+)", TEXT, re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "check", "soak"} <= named <= targets
