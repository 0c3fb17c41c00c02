"""The reduce: all voters' answers to a verdict per question. In one process while one part holds all questions; as a
Ray Data groupby over the stored Parquet files where it takes several.

questions/ + answers/ -> [join by part] -> tally -> voters.parquet -> decide -> verdicts.parquet
                                             |                          ^
                                             +-> columns, sums ---------+ what was fitted, and agreed upon
The driver holds columns of numbers, never a row: some eighty bytes a question.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import voter_prior
from codemmlu.mcq import Prior, letter_prior
from codemmlu.recipe import FITTED_RULES
from codemmlu.run_dir import RunDir
from codemmlu.schema import Verdict, letters, to_table
from codemmlu.voting import rules
from codemmlu.voting.aggregation import Partition, aggregate, merge_partials, needs_own_prior, own_prior_sums, waits_for
from codemmlu.voting.ballots import Ballots, ballots
from codemmlu.voting.model import EnsembleModel

VOTES, VERDICTS = "voters.parquet", "verdicts.parquet"
# What a task hands to the driver: columns by question, and sums.
PartialResult = tuple[pa.Table, Any]


@dataclass(frozen=True)
class ReduceResult:
    """What the reduce found. columns: by question, ordered by position; sums: see tally; priors: by voter."""

    columns: pa.Table
    sums: dict[str, Any]
    priors: dict[str, Prior | None]


class Partitions(Protocol):
    """All questions of a run with their answers, cut into `count` parts."""

    @property
    def count(self) -> int:
        """The number of parts."""

    def map(self, task: Callable[[int, Partition], PartialResult]) -> list[PartialResult]:
        """Run a task on every part."""

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """Run a task on every file."""


class OnePartition:
    """All questions of a run in one part, in this process."""

    count = 1

    def __init__(self, run: RunDir, pools: Sequence[str]) -> None:
        questions = [run.read_table(name) for name in run.files("questions")]
        answers = {pool: [run.read_table(name) for name in run.files(f"answers/{pool}")] for pool in pools}
        self._part = Partition.of(pa.concat_tables(questions), answers)

    def map(self, task: Callable[[int, Partition], PartialResult]) -> list[PartialResult]:
        """See Partitions."""
        return [task(0, self._part)]

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """See Partitions."""
        return [task(file) for file in files]


def votes(run: RunDir, ensemble: Ensemble, partitions: Partitions) -> ReduceResult:
    """Write the votes of all voters to voters.parquet."""
    run.clear(VOTES)
    priors = {name: voter_prior(run, voter) for name, voter in ensemble.voters.items() if not needs_own_prior(voter)}
    while left := [name for name in ensemble.voters if name not in priors]:
        # In turn: which answers are a cascade's own, the voters that it waits for say.
        now = [name for name in left if waits_for(ensemble, name) <= priors.keys()]
        told = [sums for _, sums in partitions.map(partial(_own_priors, ensemble, now, dict(priors)))]
        priors |= {name: letter_prior.of_sums([sums[name] for sums in told]) for name in now}
    told = partitions.map(partial(_tally, run.address, partitions.count, ensemble, priors))
    columns = pa.concat_tables([columns for columns, _ in told]).unify_dictionaries().combine_chunks()
    return ReduceResult(columns.sort_by("position"), merge_partials([sums for _, sums in told]), priors)


def verdicts(run: RunDir, chosen: str, fitted: EnsembleModel, partitions: Partitions) -> pa.Table:
    """Write the verdicts of the chosen rule to verdicts.parquet.

    Returns:
        Columns by question, as `Reduced.columns`: the letter of every rule, and the calibrated confidence of the
        verdict and of each voter.
    """
    run.clear(VERDICTS)
    tables = partitions.each(stored(run, VOTES), partial(_decide, run.address, chosen, fitted))
    return pa.concat_tables(tables).combine_chunks().sort_by("position")


def parts(questions: int, most: int) -> int:
    """How many parts questions make, of which none holds many more than `most`."""
    return max(1, -(-questions // most))


def part_of(task_id: str, count: int) -> int:
    """The part that a question and all answers to it belong to."""
    return int.from_bytes(hashlib.sha256(task_id.encode(errors="replace")).digest()[:8]) % count


def stored(run: RunDir, name: str) -> list[str]:
    """The files of VOTES or VERDICTS: one, or one for each part."""
    return [name] if run.exists(name) else run.files(name)


def in_order(run: RunDir) -> Iterator[Verdict]:
    """All verdicts in the questions' order, read a piece at a time."""
    files = stored(run, VERDICTS)
    return heapq.merge(*(_rows(run, name) for name in files), key=lambda verdict: verdict.position)


def _rows(run: RunDir, name: str) -> Iterator[Verdict]:
    for batch in run.read_batches(name):
        for row in batch.to_pylist():
            yield Verdict(**{**row, "probabilities": tuple(row["probabilities"])})


def _own_priors(
    ensemble: Ensemble, names: list[str], priors: dict[str, Prior | None], number: int, part: Partition
) -> PartialResult:
    return pa.table({}), own_prior_sums(part, ensemble, names, priors)


def _tally(
    address: str, count: int, ensemble: Ensemble, priors: dict[str, Prior | None], number: int, part: Partition
) -> PartialResult:
    told = aggregate(part, ensemble, priors)
    RunDir(address).write_table(_file(VOTES, number, count), told.votes)
    return told.columns, told.sums


def _decide(address: str, chosen: str, fitted: EnsembleModel, file: str) -> pa.Table:
    run = RunDir(address)
    some = ballots(run.read_table(file))
    columns: dict[str, Any] = {"position": some.positions}
    for rule in available(fitted, chosen):
        columns[f"rule/{rule}"] = rules.decide(rule, some, fitted).letters.astype(np.int8)
    verdict = rules.decide(chosen, some, fitted)
    columns["sure"] = verdict.probabilities.max(axis=1, initial=0.0).astype(np.float32)
    odds = np.exp(rules.calibrated(some, fitted))
    named = np.take_along_axis(odds, np.maximum(some.letters, 0)[:, :, None], axis=2)[:, :, 0]
    for column, name in enumerate(some.voters):
        columns[f"calibrated/{name}"] = np.where(some.voting[:, column], named[:, column], np.nan).astype(np.float32)
    run.write_table(file.replace(VOTES, VERDICTS, 1), _verdicts(some, verdict, chosen))
    return pa.table(columns)


def available(fitted: EnsembleModel, chosen: str) -> list[str]:
    """The rules that can be told: all, or those that need no fit. The chosen one always is, see rules.stacked."""
    return [r for r in rules.RULES if r == chosen or r not in FITTED_RULES or fitted.stacked is not None]


def _verdicts(some: Ballots, verdict: rules.Decision, rule: str) -> pa.Table:
    names = letters(26)
    rows = []
    columns = (some.task_ids, some.positions, verdict.letters, verdict.probabilities, some.sizes)
    for task_id, position, letter, probabilities, size in zip(*columns, strict=True):
        said = letter >= 0
        odds = tuple(map(float, probabilities[:size])) if said else ()
        rows.append(Verdict(task_id, int(position), names[letter] if said else None, odds, rule))
    return to_table(rows, Verdict)


def _file(name: str, number: int, count: int) -> str:
    return name if count == 1 else f"{name}/{number:06d}.parquet"
