"""Jobs of the project: run in this process or as processes of their own, and what they left in a run directory."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from codemmlu.cli.commands import call, command_of
from tests.support.processes import Run, finish
from tests.support.questions import questions_csv
from tests.support.ray import plain_environment

ROOT = Path(__file__).parents[2]


def job(name: str, *arguments: str) -> Run:
    """Run jobs/NAME.py to its end in this process. Its Ray is the one that this process has."""
    return _captured(lambda: call(name, [*arguments]))


def installed(*words: str) -> Run:
    """Run the installed command `codemmlu` to its end in this process."""
    return _captured(lambda: command_of([*words]))


def _captured(run: Callable[[], int]) -> Run:
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Run(code, out.getvalue(), err.getvalue())


def start_job(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> "psutil.Popen":
    """Start jobs/NAME.py as a process and return at once. environment: added to this process's own."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return psutil.Popen(command, cwd=ROOT, env={**plain_environment(), **(environment or {})}, **pipes)


@dataclass
class ScriptedRun:
    """A run directory, a file of questions, and the recipe that asks them of a scripted engine.

    script: see `codemmlu.engine.scripted.Script`; it may be replaced between two runs
    environment: of jobs that are processes, added to this process's own
    source: of the model, where it is not scripted
    log_folder: where the engine logs its prompts, if that is not the run's folder
    """

    folder: Path
    questions: int
    script: dict[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] | None = None
    source: str | None = None
    log_folder: Path | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.csv = questions_csv(self.folder / "questions.csv", self.questions)
        self.out = self.folder / "run"
        self._log = (self.log_folder or self.folder) / "asked"
        self.recipe = self.folder / "recipe.yaml"
        recipe = {
            "out": str(self.out),
            "questions": {"source": str(self.csv)},
            "models": {"m": {"source": self.source or f"scripted:{self.folder / 'script.json'}"}},
            "voters": {"direct": {"model": "m"}},
        }
        self.recipe.write_text(json.dumps(recipe))

    def run(self, *overrides: str, name: str = "answer") -> Run:
        """Run a job of this recipe to its end in this process."""
        return job(name, *self._arguments(overrides))

    def start(self, *overrides: str, name: str = "answer") -> "psutil.Popen":
        """Start a job of this recipe as a process and return at once."""
        return start_job(name, *self._arguments(overrides), environment=self.environment)

    def run_process(self, *overrides: str, name: str = "answer") -> Run:
        """Run a job of this recipe to its end as a process."""
        return finish(self.start(*overrides, name=name))

    def _arguments(self, overrides: tuple[str, ...]) -> list[str]:
        script = {"log": str(self._log), **self.script}
        (self.folder / "script.json").write_text(json.dumps(script))
        return [str(self.recipe), *overrides]

    def answers(self, pool: str = "m") -> list[dict[str, Any]]:
        """Return all durable rows of a pool."""
        files = sorted((self.out / "answers" / pool).glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def durable(self) -> list[str]:
        """Return the task_ids of all durable answers."""
        files = sorted((self.out / "answers" / "m").glob("*.parquet"))
        return [str(name) for file in files for name in pq.read_table(file)["task_id"].to_pylist()]

    def times_asked(self) -> Counter[str]:
        """Count how often each question reached an engine, by its first line with `#q`, or `no content`."""
        return sum(self.by_engine().values(), Counter())

    def by_engine(self) -> dict[int, Counter[str]]:
        """Count the same for every engine, by the process that held it."""
        files = self._log.parent.glob(f"{self._log.name}.*")
        return {int(file.suffix[1:]): Counter(map(_question, file.read_text().splitlines())) for file in files}

    def report(self) -> dict[str, Any]:
        """Read report.json."""
        report: dict[str, Any] = json.loads((self.out / "report.json").read_text())
        return report

    def submission(self) -> list[str]:
        """Read the lines of submission.csv."""
        return (self.out / "submission.csv").read_text().splitlines()

    def wait_for_some(self, process: "psutil.Popen", at_least: int = 1, seconds: float = 600) -> int:
        """Wait until so many answers are durable while at least one is missing; a round counts only then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            count = len(self.durable())
            if count >= at_least:
                assert count < self.questions, "every answer was there before the kill: this round does not count"
                return count
            assert process.poll() is None, finish(process)
            time.sleep(0.05)
        raise AssertionError("no answer became durable")


def _question(line: str) -> str:
    prompt = json.loads(line)["prompt"]
    return next((text for text in prompt.splitlines() if "#q" in text), "no content")


@contextlib.contextmanager
def working_directory(folder: Path) -> Iterator[None]:
    """Work in a folder until the block ends."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
