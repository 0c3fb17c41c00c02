"""CPU seconds of starting up: a dry run, and a finished demo that is issued again with nothing left to ask.

    python benchmarks/startup.py [--repeats 5] [--source SOURCE] [--json]

Each command is a process of its own; its CPU time is that of all its processes, user and system. Limits that the
project keeps on two cores: a dry run 1.5 s, a finished demo 3 s.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMITS = {"dry_run": 1.5, "nothing_left": 3.0}


def cpu_seconds(command: list[str]) -> float:
    """Run a command to its end and return its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def measure(repeats: int, source: str) -> dict[str, list[float]]:
    """Run the demo once to its end, then measure both commands in turn."""
    with tempfile.TemporaryDirectory(prefix="startup.") as folder:
        demo = [sys.executable, "jobs/run.py", "recipes/demo.yaml", f"out={folder}/run", f"models.smol.source={source}"]
        cpu_seconds(demo)
        commands = {"dry_run": [*demo, "--dry-run"], "nothing_left": demo}
        rounds = [{name: cpu_seconds(command) for name, command in commands.items()} for _ in range(repeats)]
    return {name: [one_round[name] for one_round in rounds] for name in commands}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--source", default="embedded", help="the demo's model; scripted: without loading one")
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    given = parser.parse_args()
    seconds = measure(given.repeats, given.source)
    if given.json:
        print(json.dumps({"cpu_seconds": seconds, "limits": LIMITS}), flush=True)
        return
    for name, values in seconds.items():
        median, least, most = statistics.median(values), min(values), max(values)
        print(f"{name}: {median:.2f} s CPU ({least:.2f} to {most:.2f}), limit {LIMITS[name]:.1f} s")


if __name__ == "__main__":
    main()
