"""Put one fault at a time into a copy of the project, and see whether the tests that must catch it do.

python -m tests.mutations.run                       every fault of the catalogue
python -m tests.mutations.run letter-prior-added    only the faults of these names
python -m tests.mutations.run --sample 3 --seed 7   three of them, drawn by the seed
Exit code 0: all are caught; 1: one is not; 2: the catalogue or the command line is wrong, and nothing has run.
"""

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from tests.mutations.catalogue import CATALOGUE, Mutation

ROOT = Path(__file__).parents[2]
# What the tests read: no .venv, no .git, no runs.
FOLDERS = ("benchmarks", "codemmlu", "deploy", "docs", "jobs", "recipes", "tests")
FILES = ("Makefile", "README.md", "cluster.yaml", "pyproject.toml")
# A fault can make a loop endless. On a busy machine the slowest files take some minutes.
MOST_SECONDS = 900.0

# caught: a test failed; survived: all passed; broken: neither, as where the mutated code cannot even be imported;
# red: the tests fail without the fault, too
Verdict = Literal["caught", "survived", "broken", "red"]
_VERDICTS: dict[int | None, Verdict] = {0: "survived", 1: "caught"}


class StaleError(Exception):
    """The code has changed and a mutation has not: says which one, and why it cannot be made."""


@dataclass(frozen=True)
class Tested:
    """How a run of pytest ended.

    code: Its exit code; None where it was ended because it took too long.
    by: The first test that failed.
    cpu: Seconds of CPU time, of its own processes too.
    """

    code: int | None
    by: str
    seconds: float
    cpu: float
    tail: str


@dataclass(frozen=True)
class Result:
    """What became of one mutation; seconds are those of its own tests, without the run that proves them green."""

    name: str
    verdict: Verdict
    by: str
    seconds: float
    cpu: float
    tail: str


def check(root: Path, mutation: Mutation) -> None:
    """Raise StaleError where a mutation cannot be made in the project below `root`."""
    _mutated(root, mutation)
    for name in mutation.tests:
        if not (root / name).is_file():
            raise StaleError(f"{mutation.name}: there is no {name}")


def _mutated(root: Path, mutation: Mutation) -> str:
    """Return the whole file with the fault in it."""
    try:
        whole = (root / mutation.file).read_text(encoding="utf-8")
    except OSError as error:
        raise StaleError(f"{mutation.name}: {mutation.file}: {error.strerror}") from None
    if (count := whole.count(mutation.old)) != 1:
        raise StaleError(f"{mutation.name}: what it replaces stands in {mutation.file} {count} times instead of once")
    found = whole.replace(mutation.old, mutation.new)
    try:
        compile(found, mutation.file, "exec")
    except SyntaxError as error:
        raise StaleError(f"{mutation.name}: {mutation.file} would be no python any more: {error}") from None
    return found


class Copy:
    """A copy of the project, of which one line at a time is broken. The project itself stays as it is."""

    def __init__(self, folder: Path) -> None:
        """Copy what the tests need. Raise RuntimeError where python would not import the copy's codemmlu."""
        self.folder = folder.resolve()
        for name in FOLDERS:
            shutil.copytree(ROOT / name, self.folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            shutil.copy2(ROOT / name, self.folder / name)
        self._times = itertools.count(int(time.time()) + 1)
        self._green: dict[tuple[str, ...], Tested] = {}
        _, said = self._python("-c", "import codemmlu; print(codemmlu.__file__)")
        if not said or not Path(said[-1]).is_relative_to(self.folder):
            raise RuntimeError(f"python does not import the copy in {self.folder}: {said}")

    def judge(self, mutation: Mutation) -> Result:
        """Run the tests of a mutation without it, unless that was done before, and with it."""
        if mutation.tests not in self._green:
            self._green[mutation.tests] = self._test(mutation.tests)
        green = self._green[mutation.tests]
        if green.code != 0:
            return Result(mutation.name, "red", green.by, green.seconds, green.cpu, green.tail)
        with self._broken(mutation):
            test = self._test(mutation.tests)
        return Result(mutation.name, _VERDICTS.get(test.code, "broken"), test.by, test.seconds, test.cpu, test.tail)

    @contextlib.contextmanager
    def _broken(self, mutation: Mutation) -> Iterator[None]:
        path = self.folder / mutation.file
        whole = path.read_text(encoding="utf-8")
        self._write(path, _mutated(self.folder, mutation))
        try:
            yield
        finally:
            self._write(path, whole)

    def _write(self, path: Path, text: str) -> None:
        """Write a file with a time that none had before: by that and the size python takes bytecode for current."""
        path.write_text(text, encoding="utf-8")
        stamp = next(self._times)
        os.utime(path, (stamp, stamp))

    def _test(self, files: Sequence[str]) -> Tested:
        """Run test files until the first failure."""
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "tests.mutations.quick"]
        began, before = time.monotonic(), _cpu()
        code, lines = self._python("-m", "pytest", *options, *files)
        seconds, cpu = round(time.monotonic() - began, 1), round(_cpu() - before, 1)
        failed = [line.partition(" ")[2] for line in lines if line.startswith(("FAILED ", "ERROR "))]
        return Tested(code, failed[0].partition(" - ")[0] if failed else "", seconds, cpu, "\n".join(lines[-40:]))

    def _python(self, *arguments: str) -> tuple[int | None, list[str]]:
        """Run python in the copy, and return its exit code (None: it took too long) and the lines that it printed."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_CORE_"))}
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=self.folder,
                env={**mine, "PYTHONPATH": str(self.folder)},  # goes before what is installed
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code = process.wait(MOST_SECONDS)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # what it has left, and itself if it still goes on
                process.wait()
            out.seek(0)
            return code, out.read().splitlines()


def main(arguments: Sequence[str] | None = None, catalogue: Sequence[Mutation] = CATALOGUE) -> int:
    """Judge mutations, print a table, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutations of the catalogue; all if none is named")
    parser.add_argument("--sample", type=int, metavar="N", help="draw N of them")
    parser.add_argument("--seed", default="0", help="what the sample is drawn by")
    parser.add_argument("--json", action="store_true", help="print each result as a JSON object at the end, too")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {mutation.name for mutation in catalogue}:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    chosen = [mutation for mutation in catalogue if not options.names or mutation.name in options.names]
    if options.sample is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    try:
        for mutation in chosen:
            check(ROOT, mutation)
    except StaleError as error:
        print(f"the catalogue is stale: {error}; see tests/mutations/catalogue.py", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        return _judged(Copy(Path(folder)), chosen, as_json=options.json)


def _judged(copy: Copy, chosen: Sequence[Mutation], *, as_json: bool) -> int:
    began = time.monotonic()
    width = max((len(mutation.name) for mutation in chosen), default=0)
    print(f"{'mutation':{width}}  {'verdict':8}  seconds  by", flush=True)
    results: list[Result] = []
    for mutation in chosen:
        result = copy.judge(mutation)
        print(f"{result.name:{width}}  {result.verdict:8}  {result.seconds:7.1f}  {result.by}", flush=True)
        if result.verdict != "caught" and result.tail not in {before.tail for before in results}:
            print(f"  {mutation.why}\n  {' '.join(mutation.tests)} said:\n{result.tail}", flush=True)
        results.append(result)
    caught = sum(result.verdict == "caught" for result in results)
    seconds, cpu = time.monotonic() - began, sum(result.cpu for result in results)
    print(f"{caught} of {len(results)} caught in {seconds:.0f} s; their tests took {cpu:.0f} s of CPU time")
    if as_json:
        for result in results:
            print(json.dumps({name: value for name, value in asdict(result).items() if name != "tail"}))
    return 0 if caught == len(results) else 1


def _cpu() -> float:
    """Return the CPU time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C, nothing is left behind
    sys.exit(main())
