"""The reduce: from all voters' answers to one verdict per question.

It runs in one process while one partition holds all questions, and as a Ray Data groupby over the stored Parquet files
where there are several.

questions/ + answers/ -> [join by partition] -> aggregate -> voters.parquet -> decide -> verdicts.parquet
                                                    |                            ^
                                                    +-> columns, sums -----------+ fitted model, skill by agreement
The driver holds columns of numbers, never a row: some eighty bytes a question.
"""

import hashlib
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import VoterPrior, voter_prior
from codemmlu.mcq import letter_prior
from codemmlu.recipe import FITTED_RULES
from codemmlu.run_dir import RunDir
from codemmlu.schema import Verdict, letters, to_table
from codemmlu.voting import by_kind, rules
from codemmlu.voting.aggregation import (
    Partition,
    PriorSums,
    aggregate,
    needs_own_prior,
    own_prior_sums,
    waits_for,
)
from codemmlu.voting.ballots import Ballots, ballots
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.sums import Sums, merge_partials

VOTES, VERDICTS = "voters.parquet", "verdicts.parquet"
T = TypeVar("T")
# The result that a task hands to the driver: columns by question, and sums.
PartialResult = tuple[pa.Table, T]


@dataclass(frozen=True)
class ReduceResult:
    """The result of the reduce, without the votes themselves.

    Attributes:
        columns: One row per question, ordered by position; see `vote_columns`.
        sums: The sums of all partitions.
        priors: By voter, the letter prior that it divides out.
    """

    columns: pa.Table
    sums: Sums
    priors: dict[str, VoterPrior | None]


class Partitions(Protocol):
    """All questions of a run with their answers, cut into `count` partitions."""

    @property
    def count(self) -> int:
        """Return the number of partitions."""

    def map(self, task: Callable[[int, Partition], PartialResult[T]]) -> list[PartialResult[T]]:
        """Run a task on every partition, and return the results in any order."""

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """Run a task on every file, and return the results in any order."""


class OnePartition:
    """All questions of a run in one partition, in this process."""

    count = 1

    def __init__(self, run: RunDir, pools: Sequence[str]) -> None:
        """Read the questions, and the answers of these pools."""
        questions = [run.read_table(name) for name in run.files("questions")]
        answers = {pool: [run.read_table(name) for name in run.files(f"answers/{pool}")] for pool in pools}
        self._partition = Partition.of(pa.concat_tables(questions), answers)

    def map(self, task: Callable[[int, Partition], PartialResult[T]]) -> list[PartialResult[T]]:
        """Run a task on the one partition."""
        return [task(0, self._partition)]

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """Run a task on every file."""
        return [task(file) for file in files]


def votes(run: RunDir, ensemble: Ensemble, partitions: Partitions) -> ReduceResult:
    """Write the votes of all voters to voters.parquet, and return what the driver needs to know of them."""
    run.clear(VOTES)
    priors: dict[str, VoterPrior | None] = {
        name: voter_prior(run, voter) for name, voter in ensemble.voters.items() if not needs_own_prior(voter)
    }
    while left := [name for name in ensemble.voters if name not in priors]:
        # A cascade comes after the voters that it waits for, as their votes decide which answers are its own.
        ready = [name for name in left if waits_for(ensemble, name) <= priors.keys()]
        partials = [sums for _, sums in partitions.map(partial(_own_priors, ensemble, ready, dict(priors)))]
        priors |= {name: letter_prior.of_sums([sums[name] for sums in partials]) for name in ready}
    results = partitions.map(partial(_aggregate, _VoteFiles(run.address, partitions.count), ensemble, priors))
    columns = pa.concat_tables([columns for columns, _ in results]).unify_dictionaries().combine_chunks()
    return ReduceResult(columns.sort_by("position"), merge_partials([sums for _, sums in results]), priors)


@dataclass(frozen=True)
class Election:
    """What turns stored votes into verdicts.

    Attributes:
        rule: The rule that decides.
        fitted: The ensemble model.
        kinds: The columns `position` and `kind` of all questions; None where kinds have no part in the vote.
    """

    rule: str
    fitted: EnsembleModel
    kinds: pa.Table | None = None

    @classmethod
    def of(cls, rule: str, fitted: EnsembleModel, columns: pa.Table) -> "Election":
        """Return the election with the kinds in the columns of a reduce, where the model knows kinds."""
        return cls(rule, fitted, columns.select(["position", "kind"]) if fitted.kinds else None)

    def ballots(self, votes: pa.Table) -> Ballots:
        """Return a table of stored votes as ballots."""
        return ballots(votes, self.kinds)


def verdicts(run: RunDir, election: Election, partitions: Partitions) -> pa.Table:
    """Write the verdicts of the chosen rule to verdicts.parquet.

    Args:
        run: The run directory, with the votes in voters.parquet.
        election: The rule that decides, and the ensemble model.
        partitions: The partitions of the run.

    Returns:
        Columns by question, as `ReduceResult.columns`: the letter of every rule, and the calibrated confidence of the
        verdict and of each voter.
    """
    run.clear(VERDICTS)
    tables = partitions.each(stored(run, VOTES), partial(_decide, run.address, election))
    return pa.concat_tables(tables).combine_chunks().sort_by("position")


def letters_without(
    run: RunDir, election: Election, partitions: Partitions, without: frozenset[str]
) -> npt.NDArray[np.int8]:
    """Return the letters that a rule chooses from the stored votes without those of some voters.

    Args:
        run: The run directory, with the votes in voters.parquet.
        election: The rule that decides, and the ensemble model of the other voters.
        partitions: The partitions of the run.
        without: The names of the voters that are left out.

    Returns:
        Indices of letters in the order of positions; -1 where no other voter votes.
    """
    tables = partitions.each(stored(run, VOTES), partial(_decide_without, run.address, election, without))
    letters_by_position = pa.concat_tables(tables).combine_chunks().sort_by("position")["letter"]
    return np.asarray(letters_by_position.to_numpy(), dtype=np.int8)


def _decide_without(address: str, election: Election, without: frozenset[str], file: str) -> pa.Table:
    table = RunDir(address).read_table(file)
    table = table.filter(pc.invert(pc.is_in(table["voter"], value_set=pa.array(sorted(without), pa.string()))))
    cast = election.ballots(table)
    decided = by_kind.decide(election.rule, cast, election.fitted).letters
    return pa.table({"position": cast.positions, "letter": decided.astype(np.int8)})


def parts(questions: int, most: int) -> int:
    """Return into how many partitions to cut questions, so that none holds many more than `most`."""
    return max(1, -(-questions // most))


def part_of(task_id: str, count: int) -> int:
    """Return the number of the partition that a question and all answers to it belong to."""
    return int.from_bytes(hashlib.sha256(task_id.encode(errors="replace")).digest()[:8]) % count


def stored(run: RunDir, name: str) -> list[str]:
    """Return the files of VOTES or VERDICTS: one, or one for each partition."""
    return [name] if run.exists(name) else run.files(name)


def in_order(run: RunDir) -> Iterator[Verdict]:
    """Return all verdicts in the order of the questions, read batch by batch."""
    files = stored(run, VERDICTS)
    return heapq.merge(*(_rows(run, name) for name in files), key=lambda verdict: verdict.position)


def _rows(run: RunDir, name: str) -> Iterator[Verdict]:
    for batch in run.read_batches(name):
        for row in batch.to_pylist():
            yield Verdict(**{**row, "probabilities": tuple(row["probabilities"])})


@dataclass(frozen=True)
class _VoteFiles:
    """The files that the votes of all partitions are written to.

    Attributes:
        address: Of the run directory.
        count: The number of partitions.
    """

    address: str
    count: int

    def write(self, number: int, votes: pa.Table) -> None:
        name = VOTES if self.count == 1 else f"{VOTES}/{number:06d}.parquet"
        RunDir(self.address).write_table(name, votes)


def _own_priors(
    ensemble: Ensemble, names: list[str], priors: dict[str, VoterPrior | None], number: int, partition: Partition
) -> PartialResult[dict[str, PriorSums]]:
    return pa.table({}), own_prior_sums(partition, ensemble, names, priors)


def _aggregate(
    files: _VoteFiles, ensemble: Ensemble, priors: dict[str, VoterPrior | None], number: int, partition: Partition
) -> PartialResult[Sums]:
    tally = aggregate(partition, ensemble, priors)
    files.write(number, tally.votes)
    return tally.columns, tally.sums


def _decide(address: str, election: Election, file: str) -> pa.Table:
    run, chosen, fitted = RunDir(address), election.rule, election.fitted
    cast = election.ballots(run.read_table(file))
    columns: dict[str, Any] = {"position": cast.positions}
    for rule in available(fitted, chosen):
        columns[f"rule/{rule}"] = by_kind.decide(rule, cast, fitted).letters.astype(np.int8)
    verdict = by_kind.decide(chosen, cast, fitted)
    columns["sure"] = verdict.probabilities.max(axis=1, initial=0.0).astype(np.float32)
    odds = np.exp(by_kind.calibrated(cast, fitted))
    named = np.take_along_axis(odds, np.maximum(cast.letters, 0)[:, :, None], axis=2)[:, :, 0]
    for column, name in enumerate(cast.voters):
        columns[f"calibrated/{name}"] = np.where(cast.voting[:, column], named[:, column], np.nan).astype(np.float32)
    run.write_table(file.replace(VOTES, VERDICTS, 1), _verdicts(cast, verdict, chosen))
    return pa.table(columns)


def available(fitted: EnsembleModel, chosen: str) -> list[str]:
    """Return the rules that can decide: all, or without a fit the unfitted rules and the chosen rule."""
    # The chosen rule can always decide: without a fit, `rules.stacked` falls back on the pool.
    return [r for r in rules.RULES if r == chosen or r not in FITTED_RULES or fitted.stacked is not None]


def _verdicts(cast: Ballots, verdict: rules.Decision, rule: str) -> pa.Table:
    names = letters(26)
    rows = []
    columns = (cast.task_ids, cast.positions, verdict.letters, verdict.probabilities, cast.sizes)
    for task_id, position, letter, probabilities, size in zip(*columns, strict=True):
        decided = letter >= 0
        odds = tuple(map(float, probabilities[:size])) if decided else ()
        rows.append(Verdict(task_id, int(position), names[letter] if decided else None, odds, rule))
    return to_table(rows, Verdict)
