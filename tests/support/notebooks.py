"""The Kaggle notebook's cells, run as a notebook runs them, with another `/kaggle` and `/tmp`."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.ray import plain_environment
from tests.support.runs import ROOT

FILE = ROOT / "deploy" / "kaggle-two-t4.ipynb"
CELLS: list[dict[str, Any]] = json.loads(FILE.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]


class Cells:
    """Runs the notebook's cells as a notebook would, with a test's `/kaggle` and `/tmp`, and stand-ins for tools."""

    def __init__(self, folder: Path, **tools: str) -> None:
        self.folder, self.names = folder, dict[str, Any]()
        self.environment = {**plain_environment(), "PATH": f"{folder}/bin:/usr/bin:/bin"}
        self._working_directory = folder
        (folder / "bin").mkdir()
        for name, script in {"nvidia-smi": "", "pip": "", "uv": "", "python": "", **tools}.items():
            file = folder / "bin" / name
            file.write_text(f"#!/bin/sh\necho {name} $* >> {folder}/commands\n{script}\n")
            file.chmod(0o755)

    def run(self, cell: str) -> None:
        """Run one cell; its commands see the variables of the cells before."""
        text = re.sub(r"/(kaggle|tmp)/", rf"{self.folder}/\1/", cell)
        lines = [
            "_exit_code = shell(" + repr(x[1:]) + ")" if x.startswith(("!", "%")) else x for x in text.splitlines()
        ]
        with mock.patch.dict(os.environ, self.environment, clear=True):
            self.names["shell"] = self._shell
            exec(compile("\n".join(lines), "cell", "exec"), self.names)
            self.environment = {**os.environ, "PATH": self.environment["PATH"]}

    def _shell(self, command: str) -> int:
        for name in re.findall(r"(?<!\$)\{(\w+)\}", command):
            command = command.replace(f"{{{name}}}", str(self.names[name]))
        if command.startswith("cd "):
            self._working_directory = Path(command.removeprefix("cd "))
            return 0
        return subprocess.run(["bash", "-c", command], env=dict(os.environ), cwd=self._working_directory).returncode

    def commands(self) -> str:
        return (self.folder / "commands").read_text()


PLACES = ["{name}", "datasets/somebody/{name}", "competitions/{name}", "datasets/somebody/{name}/{name}"]


def attach(folder: Path, place: str) -> None:
    """Attach both datasets at a place of Kaggle's."""
    files = {"codemmlu-on-ray": ("jobs/run.py", "jobs/report.py"), "codemmlu": ("test.csv", "train.csv")}
    (folder / "kaggle" / "working" / "run").mkdir(parents=True)
    (folder / "tmp").mkdir()
    for name, contents in files.items():
        for content in contents:
            file = folder / "kaggle" / "input" / place.format(name=name) / content
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")
