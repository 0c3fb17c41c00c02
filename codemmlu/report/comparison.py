"""The comparison of several runs on the same questions, voter by voter and verdict by verdict."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from codemmlu.errors import UserError, safe
from codemmlu.report import statistics
from codemmlu.report.results import RunComparison, RunPair
from codemmlu.report.schema import Report
from codemmlu.report.score_table import Bits, Codes, Column, ScoreTable
from codemmlu.report.summary import VOTE
from codemmlu.run_dir import RunDir
from codemmlu.schema import letters
from codemmlu.voting import reduction
from codemmlu.voting.ballots import ANSWERED, FAILED, STATUSES

_NAMES = letters(26)


@dataclass(frozen=True)
class _Finished:
    """A run with a report: columns of numbers on its questions, in the order of their task_ids.

    Attributes:
        name: The shortest name that tells the run from the others.
        run: The run directory.
        task_ids: As strings.
        content: A hash of the text and the choices of each question.
        right: The right letter of each question, from 0; -1 where it is unlabelled.
        columns: By voter, and under `vote` the verdicts.
    """

    name: str
    run: RunDir
    task_ids: "pa.Array[Any]"
    content: "pa.Array[Any]"
    right: Codes
    columns: dict[str, Column]


def read_report(address: str) -> Report:
    """Return the report of a finished run, which an earlier version may have written.

    Raises:
        UserError: There is no finished run, or its report lacks a section that this version reads.
    """
    run = RunDir(address)
    _report(run)  # refuses an address without a finished run
    try:
        # Not by model_validate_json, which refuses the lone surrogate of a path that is not UTF-8.
        return Report.model_validate(json.loads(run.read("report.json")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{run.shown}/report.json: {safe(key, 80)}: {first['msg']}; the vote on the same answers writes a new one: "
            "python jobs/vote.py RECIPE"
        ) from None


def compare(addresses: Sequence[str]) -> RunComparison:
    """Compare runs by the paired differences of their voters.

    An address without a finished run, and runs that were asked different questions, raise a UserError.

    Args:
        addresses: The addresses of run directories.

    Returns:
        The runs' addresses by name, counts and comparisons.
    """
    runs = [RunDir(address) for address in addresses]
    names = _names([run.shown for run in runs])
    several = [_read(name, run) for name, run in zip(names, runs, strict=True)]
    first = several[0]
    for other in several[1:]:
        _same_questions(first, other)
    return RunComparison(
        runs={finished.name: finished.run.shown for finished in several},
        questions=len(first.task_ids),
        labelled=int((first.right >= 0).sum()),
        comparisons=_pairs(several),
    )


def _pairs(several: Sequence[_Finished]) -> list[RunPair]:
    """Compare every two runs by each voter in both, with Holm's correction over all comparisons."""
    right = several[0].right
    pairs = []
    for number, first in enumerate(several):
        for second in several[number + 1 :]:
            for voter in [name for name in first.columns if name in second.columns]:
                both = {first.name: first.columns[voter], second.name: second.columns[voter]}
                pairs.append(_pair(right, voter, both))
    corrected = statistics.holm([pair.p for pair in pairs])
    return [pair.model_copy(update={"p_holm": p}) for pair, p in zip(pairs, corrected, strict=True)]


def _pair(right: Codes, voter: str, both: Mapping[str, Column]) -> RunPair:
    """Compare two runs by one voter, as if it were the only comparison."""
    (pair,) = statistics.compare(_score_table(right, both), both)
    first, second = (column.letters for column in both.values())
    answered = (first >= 0) & (second >= 0)
    same = float((first == second)[answered].mean()) if answered.any() else None
    first_accuracy, second_accuracy = _accuracies(right, both)
    return RunPair(
        voter=voter, **vars(pair), first_accuracy=first_accuracy, second_accuracy=second_accuracy, same_letter=same
    )


def _accuracies(right: Codes, both: Mapping[str, Column]) -> list[float | None]:
    """Return the accuracy of each of two columns on the labelled questions that both were asked."""
    scores = _score_table(right, both)
    asked: Bits = np.logical_and.reduce([scores.counted(column) for column in both.values()])
    return [float(scores.correct(column)[asked].mean()) if asked.any() else None for column in both.values()]


def _score_table(right: Codes, voters: Mapping[str, Column]) -> ScoreTable:
    """Return a score table with letters alone: of questions of other runs only task_ids are known."""
    nothing = np.zeros(len(right))
    return ScoreTable(
        right, right, nothing.astype(np.int32), nothing.astype(np.int32), (), right, nothing, dict(voters), {}, {}
    )


def _same_questions(first: _Finished, other: _Finished) -> None:
    """Refuse a run that has other questions than the first run, or the same with other labels."""
    if first.task_ids.equals(other.task_ids) and first.content.equals(other.content):
        differ = np.flatnonzero(first.right != other.right)
        if len(differ):
            odd = int(differ[0])
            other_letter, first_letter = _letter(other.right[odd]), _letter(first.right[odd])
            raise UserError(
                f"{other.run.shown}: {safe(first.task_ids[odd].as_py(), 80)} has the answer {other_letter} there and "
                f"{first_letter} in {first.run.shown}; runs are compared on the same labels"
            )
        return
    asked, others = (
        dict(zip(run.task_ids.to_pylist(), run.content.to_pylist(), strict=True)) for run in (first, other)
    )
    shared = asked.keys() & others.keys()
    differing = sum(asked[name] != others[name] for name in shared)
    raise UserError(
        f"{other.run.shown}: other questions than in {first.run.shown}: {len(asked) - len(shared):,} are "
        f"missing, {len(others) - len(shared):,} are new and {differing:,} read differently; runs are compared "
        "on the same questions"
    )


def _letter(code: int) -> str | None:
    return None if code < 0 else _NAMES[code]


def _read(name: str, run: RunDir) -> _Finished:
    report = _report(run)  # refuses an address without a finished run
    asked = pa.concat_tables([_asked(run, file) for file in run.files("questions")]).sort_by("task_id").combine_chunks()
    task_ids = asked["task_id"].combine_chunks()
    columns = {voter: _skipped(len(task_ids)) for voter in report["voters"]}
    votes_files = reduction.stored(run, reduction.VOTES)
    is_whole = len(task_ids) == report.get("questions", len(task_ids))
    if not (is_whole and votes_files and reduction.stored(run, reduction.VERDICTS)):
        raise UserError(f"{run.shown}: files of its questions, votes or verdicts are missing; run it again")
    for file in votes_files:
        votes = run.read_table(file, ["voter", "task_id", "status", "letter"])
        rows = _rows(votes, task_ids, f"{run.shown}/{file}")
        status, named = _codes(votes["status"], STATUSES), _codes(votes["letter"], _NAMES)
        for voter, column in columns.items():
            own = pc.equal(votes["voter"], pa.scalar(voter)).to_numpy()
            column.status[rows[own]], column.letters[rows[own]] = status[own], named[own]
    columns[VOTE] = _verdicts(run, task_ids, list(columns.values()))
    return _Finished(name, run, task_ids, asked["content"].combine_chunks(), _codes(asked["answer"], _NAMES), columns)


def _rows(table: pa.Table, task_ids: "pa.Array[Any]", name: str) -> Any:
    """Return the row of each task_id of a table; a task_id that is not asked is a UserError."""
    rows = pc.index_in(table["task_id"], value_set=task_ids)
    if rows.null_count:
        raise UserError(f"{name} has votes on questions that the run does not have; vote again: python jobs/vote.py")
    return rows.to_numpy()


def _asked(run: RunDir, file: str) -> pa.Table:
    """Return one file of questions, with a hash in place of each question's text."""
    table = run.read_table(file, ["task_id", "question", "choices", "answer"])
    content = pa.array([_hash(row["question"], row["choices"]) for row in table.to_pylist()], pa.binary(16))
    return table.select(["task_id", "answer"]).append_column("content", content)


def _verdicts(run: RunDir, task_ids: "pa.Array[Any]", voters: Sequence[Column]) -> Column:
    """Return the verdicts; a question that every voter failed on counts as failed, and not as wrong."""
    column = _skipped(len(task_ids))
    for file in reduction.stored(run, reduction.VERDICTS):
        verdicts = run.read_table(file, ["task_id", "letter"])
        rows = _rows(verdicts, task_ids, f"{run.shown}/{file}")
        column.letters[rows] = _codes(verdicts["letter"], _NAMES)
    failed = np.logical_and.reduce([voter.status == FAILED for voter in voters])
    silent = np.where(failed, FAILED, STATUSES.index("abstained"))
    column.status[:] = np.where(column.letters >= 0, ANSWERED, silent)
    return column


def _skipped(questions: int) -> Column:
    """Return the column of a voter that was asked no question."""
    nothing = np.full(questions, np.nan)
    status = np.full(questions, STATUSES.index("skipped"), dtype=np.int8)
    return Column(status, np.full(questions, -1, dtype=np.int8), nothing, nothing)


def _codes(names: Any, known: Sequence[str]) -> Codes:
    """Return the index of each name among the known names, -1 for null and unknown ones."""
    indices: Any = pc.fill_null(pc.index_in(names, value_set=pa.array(known)), -1)
    return np.asarray(indices.to_numpy(), dtype=np.int8)


def _report(run: RunDir) -> dict[str, Any]:
    """Return the report of a finished run as it is stored, of whichever version."""
    try:
        report = json.loads(run.read("report.json"))
    except (OSError, ValueError, RecursionError, pa.ArrowInvalid):
        report = None
    if not isinstance(report, dict) or not isinstance(report.get("voters"), dict) or not run.files("questions"):
        raise UserError(f"{run.shown}: no report.json there; it is no run directory, or its run has not ended")
    return report


def _hash(question: str, choices: Sequence[str]) -> bytes:
    text = json.dumps([question, choices], ensure_ascii=True)
    return hashlib.sha256(text.encode()).digest()[:16]


def _names(shown: Sequence[str]) -> list[str]:
    """Return the last part of each address, with as many parts before it as make the names differ."""
    parts = [PurePosixPath(address).parts for address in shown]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(shown, 1)]
