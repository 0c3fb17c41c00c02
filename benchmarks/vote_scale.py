"""How long the final reduce takes, and how much memory: synthetic answers of many voters, voted on and reported.

    python benchmarks/vote_scale.py --questions 10000 --voters 8
    python benchmarks/vote_scale.py --questions 1000000 --voters 8

Questions have four choices; each voter knows a share of them and guesses the others, and is about as sure as it should
be. The answers are written as a run leaves them; then `jobs/vote.py`'s own step runs in this process. Memory: the
largest resident set of this process, the driver, and of it and all its children together, while the step runs.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from codemmlu.cli import steps
from codemmlu.cli.console import Terminal
from codemmlu.cli.job import JobContext
from codemmlu.dataset.stored import stored_questions
from codemmlu.inference.voters import ResolvedVoter, resolve_voters
from codemmlu.recipe import load
from codemmlu.run_dir import RunDir
from codemmlu.schema import ANSWER, Question

_CHOICES = 4
_BLOCK = 5_000  # answers in one file


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=10_000)
    parser.add_argument("--voters", type=int, default=8)
    parser.add_argument("--out", help="a directory for the synthetic run (default: a temporary one)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    folder = Path(given.out or tempfile.mkdtemp(prefix="vote_scale."))
    try:
        told = measure(folder, given.questions, given.voters)
    finally:
        if not given.out:
            shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        print(json.dumps(told))
    else:
        print(
            f"{told['questions']:,} questions x {told['voters']} voters: vote and report took {told['seconds']:.0f} s; "
            f"peak memory {told['driver_gib']:.2f} GiB in the driver, {told['all_gib']:.2f} GiB with all processes"
        )


def measure(folder: Path, questions: int, voters: int) -> dict[str, Any]:
    """Makes a synthetic run in `folder`, votes on it and says what that took."""
    job = _job(folder, questions, voters)
    _answer(job)
    memory = _Memory()
    start = time.monotonic()
    with memory:
        steps.vote(job)
    seconds = time.monotonic() - start
    gib = 2**30
    return {
        "questions": questions,
        "voters": voters,
        "seconds": seconds,
        "driver_gib": memory.own / gib,
        "before_gib": memory.before / gib,
        "all_gib": memory.together / gib,
    }


def _job(folder: Path, questions: int, voters: int) -> JobContext:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "questions.csv"
    right = np.random.default_rng(0).integers(0, _CHOICES, questions)
    with source.open("w") as out:
        out.write("task_id,question,choices,answer\n")
        for number in range(questions):
            choices = [f"{number} plus {step}" for step in range(_CHOICES)]
            out.write(f'q{number},"What does program {number} print?","{choices}",{"ABCD"[right[number]]}\n')
    recipe = {
        "out": str(folder / "run"),
        "questions": {"source": str(source)},
        "models": {f"m{n}": {"source": "embedded"} for n in range(voters)},
        "voters": {f"v{n}": {"model": f"m{n}"} for n in range(voters)},
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    return JobContext("vote", (str(path),), load(str(path), []), Terminal(to_stderr=True))


def _answer(job: JobContext) -> None:
    """What every voter says of every question, as the engines' actors would have left it."""
    run = RunDir(job.recipe.out)
    run.create()
    inputs = steps.read_inputs(job, run)
    steps.begin(job.recipe, run, inputs)
    voters = resolve_voters(job.recipe, inputs.models, None, run, inputs.questions)
    random = np.random.default_rng(1)
    for number, block in enumerate(_blocks(stored_questions(run))):
        for place, voter in enumerate(voters.values()):
            skill = 0.1 + 0.6 * place / max(1, len(voters) - 1)
            run.write_table(f"answers/{voter.pool}/{number:06d}.parquet", _answers(voter, block, skill, random))


def _blocks(questions: Iterator[Question]) -> Iterator[list[Question]]:
    block: list[Question] = []
    for question in questions:
        block.append(question)
        if len(block) == _BLOCK:
            yield block
            block = []
    if block:
        yield block


def _answers(voter: ResolvedVoter, block: Sequence[Question], skill: float, random: np.random.Generator) -> pa.Table:
    right = np.array(["ABCD".index(question.answer or "A") for question in block])
    knows = random.random(len(block)) < skill
    said = np.where(knows, right, random.integers(0, _CHOICES, len(block)))
    logits = random.normal(0.0, 0.7, (len(block), _CHOICES))
    logits[np.arange(len(block)), said] = logits.max(axis=1) + random.exponential(1.0, len(block))
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = [
        {
            "key": voter.spec.key(question),
            "task_id": question.task_id,
            "split": "test",
            "ask": voter.spec.name,
            "status": "answered",
            "letter": "ABCD"[letter],
            "readings": [
                {"order": range(_CHOICES), "logprobs": odds, "mass": 0.9, "prompt_tokens": 60, "cached_tokens": 0}
            ],
            "turns": [],
            "retrieved": [],
            "nearest": None,
            "verbatim": None,
            "prompt_tokens": 60,
            "cached_tokens": 0,
            "generated_tokens": 1,
            "started": float(question.position) / 100,
            "seconds": 1.0,
            "error": None,
        }
        for question, letter, odds in zip(block, said.tolist(), logs.tolist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=ANSWER)


class _Memory:
    """Watches resident memory, ten times a second: of this process, and of it with all its children.

    Ray starts some of its processes apart from the driver: those of this machine that carry its name count, too.
    """

    def __init__(self) -> None:
        self.before = psutil.Process().memory_info().rss
        self.own = self.together = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        this = psutil.Process()
        while not self._done.wait(0.1):
            own = this.memory_info().rss
            self.own = max(self.own, own)
            others = 0
            for child in this.children(recursive=True):
                try:
                    others += child.memory_info().rss - child.memory_info().shared
                except psutil.Error:
                    continue
            self.together = max(self.together, own + others)


if __name__ == "__main__":
    main()
