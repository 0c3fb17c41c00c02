"""The installed command: the same functions as jobs/, recipes by name, completion, and another package of its name."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codemmlu.cli import same_name
from codemmlu.cli.commands import COMMANDS
from codemmlu.cli.job import Program
from codemmlu.recipe import load
from tests.support.questions import questions_csv
from tests.support.runs import ROOT, installed, job

SCRIPTED = "models.smol.source=scripted"


def test_every_command_is_a_job_and_says_what_it_does() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == COMMANDS.keys()
    for name, command in COMMANDS.items():
        assert callable(command.function())
        assert f'run_job("{name}")' in (ROOT / "jobs" / f"{name}.py").read_text()
    listed = installed("--help").out
    assert [name for name in COMMANDS if f"    {name} " not in listed] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_is_printed(name: str) -> None:
    done = installed(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: codemmlu {name} ")
    assert COMMANDS[name].summary in " ".join(done.out.split())


def test_the_version_is_that_of_the_distribution() -> None:
    done = installed("--version")
    assert (done.code, done.out) == (0, f"codemmlu-ray {importlib.metadata.version('codemmlu-ray')}\n")


def test_a_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = installed("run", "demo", SCRIPTED, "--dry-run")
    assert done.code == 0, done.err
    assert f"to run it: codemmlu run demo {SCRIPTED}" in done.out
    assert f"python jobs/run.py demo {SCRIPTED}" in job("run", "demo", SCRIPTED, "--dry-run").out
    # A file of the user's goes before a name, and a name that is neither is one line with the names.
    (tmp_path / "demo").write_text("voters: {}\nout: x\n")
    assert "voters: at least one is needed" in installed("run", "demo").err
    unknown = installed("run", "dmeo")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "there is no recipe 'dmeo'" in unknown.err
    assert "ensemble, ensemble-best" in unknown.err


@pytest.mark.parametrize("words", [["rnu", "demo"], ["run"], ["run", "demo", "--drx"], ["doctor", "now"]])
def test_a_wrong_command_is_one_line(words: list[str]) -> None:
    done = installed(*words)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert done.err.startswith("error: ")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_is_a_script_with_commands_and_recipes(shell: str, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_text(installed("--print-completion", shell).out)
    assert "finetune" in script.read_text()
    assert " mixtral-8x7b-2xt4 " in script.read_text()
    if shell == "bash":
        words = "COMP_WORDS=(codemmlu run mixtral-8) COMP_CWORD=2"
        lines = f"source {script}; {words}; _shtab_codemmlu; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        done = subprocess.run(["bash", "--norc", "-c", lines], capture_output=True, text=True)
        assert done.stdout.split() == ["mixtral-8x7b-2xt4"], done.stderr


def test_another_package_of_this_name_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_name, "installed", {"codemmlu": "0.0.2.1"}.get)
    done = installed("run", "demo", SCRIPTED, "--dry-run")
    assert done.code == 0
    assert done.err.startswith("WARNING: the distribution codemmlu 0.0.2.1, the benchmark's own evaluator")
    assert "WARNING" not in done.out


@pytest.mark.parametrize("answers", ["", "A"])
def test_init_writes_a_recipe_that_runs(answers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    questions_csv(tmp_path / "my file.csv", 80, answers=answers)
    done = installed("init", "my file.csv", "questions.limit=70")
    assert done.code == 0, done.err
    assert "codemmlu run my-file.yaml --dry-run" in done.out
    recipe = load("my-file.yaml", [])
    assert (recipe.out, recipe.questions.source, recipe.questions.limit) == ("runs/my-file", "my file.csv", 70)
    text = Path("my-file.yaml").read_text()
    # What its comments offer is a recipe, too.
    offered = [line[2:] for line in text.splitlines() if line.startswith(("# examples:", "# vote:"))]
    more = yaml.safe_load("\n".join(offered)) | {"questions": {"source": "my file.csv"}}
    assert more["vote"] == {"fit": {"limit": 300}}
    plan = installed("run", "my-file.yaml", "models.mine.source=scripted", "--dry-run")
    assert plan.code == 0, plan.err
    # A second one replaces nothing.
    again = installed("init", "my file.csv")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "my-file.yaml is here already" in again.err
    assert Path("my-file.yaml").read_text() == text


def test_init_keeps_no_keys_of_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codemmlu.cli.starting_recipe import _questions, _stem
    from codemmlu.dataset import QuestionStream
    from codemmlu.recipe import QuestionSettings

    source = "s3://KEY:SECRET@bucket/my.csv?endpoint_override=x"
    assert _stem(source) == "my"
    assert "SECRET" not in "\n".join(_questions(source, {}, QuestionStream(QuestionSettings(source="x"))))


def test_programs_name_commands_and_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (Program.JOBS.of("run"), Program.JOBS.recipe("demo")) == ("python jobs/run.py", "recipes/demo.yaml")
    assert (Program.INSTALLED.of("run"), Program.INSTALLED.recipe("demo")) == ("codemmlu run", "demo")
    monkeypatch.setattr(sys, "argv", ["/venv/bin/codemmlu-ray", "run", "demo"])
    assert (Program.JOBS.of("run"), Program.INSTALLED.of("run")) == ("python jobs/run.py", "codemmlu-ray run")
