"""Running jobs as a person does, as processes of their own, and looking at what they left."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Run:
    """A finished process."""

    code: int
    out: str
    err: str


@dataclass
class CountedRun:
    """One run directory, its questions, and the engine behind it: `vllm` or the fields of a scripted engine.

    environment: of the job, where it is not this process's own
    """

    folder: Path
    questions: int
    engine: dict[str, Any] | str
    environment: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.source = self.folder / "questions.csv"
        lines = ["task_id,question,choices,answer"]
        lines += [f"q{i},\"#q{i} which is it?\",\"['this', 'that {i}', 'those']\",A" for i in range(self.questions)]
        self.source.write_text("\n".join(lines) + "\n")
        self.asked = self.folder / "asked"
        self.out = self.folder / "run"
        recipe = {
            "out": str(self.out),
            "questions": {"source": str(self.source)},
            "models": {"m": {"source": "embedded"}},
            "voters": {"direct": {"model": "m"}},
        }
        self.recipe = self.folder / "recipe.yaml"
        self.recipe.write_text(json.dumps(recipe))

    def start(self, *overrides: str) -> "psutil.Popen":
        """Starts the job and comes back at once."""
        script = self.folder / "script.json"
        if not isinstance(self.engine, str):
            script.write_text(json.dumps(self.engine))
        named = "vllm" if self.engine == "vllm" else str(script)
        return self.started("tests.counted_job", str(self.asked), named, str(self.recipe), *overrides)

    def started(self, module: str, *arguments: str) -> "psutil.Popen":
        """A job of the tests' own, which has just begun."""
        command = [sys.executable, "-m", module, *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return psutil.Popen(command, cwd=ROOT, env=self.environment, **pipes)

    def run(self, *overrides: str) -> Run:
        """Runs the job to its end."""
        return finish(self.start(*overrides))

    def answers(self) -> list[dict[str, Any]]:
        """All durable rows."""
        files = sorted((self.out / "answers" / "m").glob("*.parquet"))
        return [row for file in files for row in pq.read_table(file).to_pylist()]

    def durable(self) -> list[str]:
        """The task_ids of all durable answers."""
        files = sorted((self.out / "answers" / "m").glob("*.parquet"))
        return [str(name) for file in files for name in pq.read_table(file)["task_id"].to_pylist()]

    def times_asked(self) -> Counter[str]:
        """How often each question reached an engine."""
        return sum(self.by_engine().values(), Counter())

    def by_engine(self) -> dict[int, Counter[str]]:
        """The same of every engine, by the process that held it."""
        files = self.folder.glob(f"{self.asked.name}.*")
        return {int(file.suffix[1:]): Counter(file.read_text().splitlines()) for file in files}

    def report(self) -> dict[str, Any]:
        """report.json."""
        report: dict[str, Any] = json.loads((self.out / "report.json").read_text())
        return report

    def submission(self) -> list[str]:
        """The lines of submission.csv."""
        return (self.out / "submission.csv").read_text().splitlines()

    def wait_for_some(self, process: "psutil.Popen", at_least: int = 1, seconds: float = 300) -> int:
        """Waits until at least so many answers are durable and one is missing; a round counts only then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            there = len(self.durable())
            if there >= at_least:
                assert there < self.questions, "every answer was there before the kill: this round does not count"
                return there
            assert process.poll() is None, finish(process)
            time.sleep(0.05)
        raise AssertionError("no answer became durable")


def finish(process: "psutil.Popen") -> Run:
    """Waits for a process and takes what it said."""
    out, err = process.communicate(timeout=600)
    return Run(process.returncode, out, err)


def job(name: str, *arguments: str, env: dict[str, str] | None = None, cwd: Path = ROOT) -> Run:
    """Runs jobs/NAME.py to its end."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *arguments]
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=600, env={**os.environ, **(env or {})}
    )
    return Run(done.returncode, done.stdout, done.stderr)


def descendants(process: "psutil.Popen") -> list[psutil.Process]:
    """Every process below one, by parents alone: psutil compares start times too, and these shift as clocks are set."""
    below: dict[int, list[psutil.Process]] = {}
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            below.setdefault(one.ppid(), []).append(one)
    found, waiting = [], [process.pid]
    while waiting:
        children = below.get(waiting.pop(), [])
        found += children
        waiting += [child.pid for child in children]
    return found


def named(processes: list[psutil.Process], name: str) -> list[psutil.Process]:
    """Those whose name or command line has `name` in it."""
    return list(_named(processes, name))


def _named(processes: list[psutil.Process], name: str) -> Iterator[psutil.Process]:
    for process in processes:
        try:
            if name in process.name() or any(name in part for part in process.cmdline()):
                yield process
        except psutil.NoSuchProcess:
            continue


def kill(process: "psutil.Process | psutil.Popen") -> None:
    """As the kernel does when memory is out: nothing is said before."""
    os.kill(process.pid, signal.SIGKILL)
