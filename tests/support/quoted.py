"""What the deployment files quote of the project: versions, recipes and commands, comments included."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.support.processes import Run
from tests.support.questions import questions_csv
from tests.support.runs import ROOT, job

FILES = ("cluster.yaml", "deploy/rayjob.yaml", "deploy/kaggle-two-t4.ipynb")


def versions(text: str) -> set[tuple[str, str]]:
    """(package, exact version) of every pin: `ray==2.60.0`, an image of Ray's, the address of uv's installer."""
    found = re.findall(r"([A-Za-z][A-Za-z0-9-]*)==([0-9][0-9A-Za-z.]*)", text)
    found += [("ray", version) for version in re.findall(r"rayproject/ray:([0-9.]+)|rayVersion: ([0-9.]+)", text)]
    found += [("uv", version) for version in re.findall(r"astral\.sh/uv/([0-9.]+)/", text)]
    return {(name, version if isinstance(version, str) else "".join(version)) for name, version in found}


def asked_for() -> dict[str, SpecifierSet]:
    """What pyproject.toml, for GPUs, and the Makefile ask of every package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["gpu"]
    quoted = re.findall(r'"([a-z0-9-]+[=<>][^"$]*)"', (ROOT / "Makefile").read_text())
    return {one.name: one.specifier for one in map(Requirement, lines + quoted)}


def recipes(text: str) -> set[str]:
    """Every recipe that is named, as a path."""
    return set(re.findall(r"recipes/[A-Za-z0-9_.-]+\.yaml", text))


def planned(command: str, folder: Path, *options: str) -> Run:
    """The plan of a command that a file quotes, with 40 questions, 40 solved ones and `out` in `folder`."""
    questions = questions_csv(folder / "questions.csv", 40, answers="")
    solved = questions_csv(folder / "solved.csv", 40, prefix="s", text="#s{i} which was it?")
    there = {"questions.source": questions, "examples.source": solved, "out": folder / "run"}
    python, script, *words = command.replace("/opt/codemmlu/", "").split()
    assert python == "python", command
    keys = [word.partition("=")[0] for word in words]
    arguments = [f"{key}={there[key]}" if key in there else word for key, word in zip(keys, words, strict=True)]
    return job(Path(script).stem, *arguments, *([] if "--dry-run" in words else ["--dry-run"]), *options)
