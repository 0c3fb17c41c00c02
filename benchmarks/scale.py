"""How a run grows: the real pipeline over many questions, with an engine that only waits as a real one would.

    python benchmarks/scale.py --questions 10000 [--latency 0.05] [--json]

The job is a process of its own. At 90 % of the answers it is killed as by `kill -9`, and issued again. Printed: rows a
second, the time that each row costs beside the engine's waiting, the driver's largest resident memory, and the seconds
from the second issue to its first new answer.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from codemmlu.run_dir import RunDir

ROOT = Path(__file__).parents[1]
_AT_ONCE = 64  # questions that the job gives one engine on the CPU at a time


def write(folder: Path, questions: int, latency: float) -> Path:
    """The questions as a file, and a recipe that asks each of them once of an engine that takes `latency` seconds for
    every prompt, however many there are."""
    source = folder / "questions.parquet"
    columns = {
        "task_id": [f"q{number}" for number in range(questions)],
        "question": [f"What does program {number} print, and why?" for number in range(questions)],
        "choices": [[f"{number}", f"{number + 1}", "nothing", "an error"] for number in range(questions)],
        "answer": ["ABCD"[number % 4] for number in range(questions)],
    }
    pq.write_table(pa.table(columns), source)
    script = folder / "script.json"
    script.write_text(json.dumps({"seconds": latency}))
    recipe = folder / "recipe.yaml"
    told = {
        "out": str(folder / "run"),
        "questions": {"source": str(source)},
        "models": {"m": {"source": f"scripted:{script}"}},
        "voters": {"direct": {"model": "m"}},
    }
    recipe.write_text(json.dumps(told))
    return recipe


@dataclass
class Durable:
    """Counts answers in files that are whole. Each is read once: there are thousands, and they are looked at often."""

    folder: Path
    rows: int = 0
    seen: set[str] = field(default_factory=set)

    def count(self) -> int:
        """As of now."""
        with contextlib.suppress(FileNotFoundError):  # before the first answer
            new = {path.name for path in os.scandir(self.folder) if path.name.endswith(".parquet")} - self.seen
            self.rows += sum(pq.read_metadata(self.folder / name).num_rows for name in new if name[0] != ".")
            self.seen |= new
        return self.rows


def issue(folder: Path, kill_at: int | None, durable: Durable) -> dict[str, float]:
    """One issue of the job. kill_at: so many durable answers; None: to its end."""
    before = durable.count()
    began = time.monotonic()
    argv = [sys.executable, str(ROOT / "jobs" / "answer.py"), str(folder / "recipe.yaml")]
    job = psutil.Popen(argv, stdout=subprocess.DEVNULL)
    first = last = None
    peak, done = 0, before
    while job.poll() is None:
        time.sleep(0.5)
        try:
            peak = max(peak, job.memory_info().rss)
        except psutil.Error:
            break
        if (now := durable.count()) > done:
            done, last = now, time.monotonic()
            first = first or (last, now)
        if kill_at and done >= kill_at:
            job.kill()
    code = job.wait()
    if code not in ((-9,) if kill_at else (0,)):
        raise SystemExit(f"the job ended with {code}")
    counted = done - first[1] if first else 0
    return {
        "seconds": time.monotonic() - began,
        "until_first": first[0] - began if first else math.nan,
        "rows_per_second": counted / (last - first[0]) if first and last and last > first[0] else math.nan,
        "driver_gib": peak / 2**30,
    }


def measure(questions: int, latency: float) -> dict[str, Any]:
    """Both issues."""
    folder = Path(tempfile.mkdtemp(prefix="scale."))
    try:
        write(folder, questions, latency)
        durable = Durable(folder / "run" / "answers" / "m")
        killed = issue(folder, questions * 9 // 10, durable)
        kept = durable.count()
        resumed = issue(folder, None, durable)
        rows = RunDir(str(folder / "run"))
        ids = [
            row for name in rows.files("answers/m") for row in rows.read_table(name, ["task_id"])["task_id"].to_pylist()
        ]
        assert len(ids) == len(set(ids)) == questions, "lost or doubled"
        files = list((folder / "run" / "answers").rglob("*.parquet"))
        size = sum(path.stat().st_size for path in files)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "questions": questions,
        "latency": latency,
        "rows_per_second": killed["rows_per_second"],
        "overhead_ms": 1000 * (1 / killed["rows_per_second"] - latency / _AT_ONCE),
        "driver_gib": max(killed["driver_gib"], resumed["driver_gib"]),
        "kept_at_kill": kept,
        "seconds_to_start": killed["until_first"],
        "seconds_to_go_on": resumed["until_first"],
        "seconds": killed["seconds"] + resumed["seconds"],
        "answer_bytes": size / questions,
        "files": len(files),
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds that the engine takes for a prompt")
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    given = parser.parse_args()
    told = measure(given.questions, given.latency)
    if given.json:
        print(json.dumps(told), flush=True)
        return
    print(f"{told['questions']:,} questions, the engine takes {told['latency']} s for each of {_AT_ONCE} at once")
    print(f"{told['rows_per_second']:,.0f} a second, {told['overhead_ms']:.2f} ms each beside the engine's waiting")
    print(f"driver {told['driver_gib']:.2f} GiB at most")
    print(f"{told['answer_bytes']:,.0f} bytes an answer, in {told['files']:,} files")
    print(f"first answer after {told['seconds_to_start']:.0f} s")
    print(f"killed at {told['kept_at_kill']:,}; issued again, a new one after {told['seconds_to_go_on']:.0f} s")


if __name__ == "__main__":
    main()
