"""Comparing: several runs on the same questions, voter by voter and verdict by verdict."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.errors import UserError, safe
from codemmlu.report import statistics
from codemmlu.report.score_table import Bits, Codes, Column, ScoreTable
from codemmlu.report.summary import VOTE
from codemmlu.run_dir import RunDir
from codemmlu.schema import letters
from codemmlu.voting import reduction
from codemmlu.voting.ballots import ANSWERED, FAILED, STATUSES

_NAMES = letters(26)


@dataclass(frozen=True)
class _Finished:
    """A run that has been voted on: columns of numbers on its questions, which are in the order of their task_ids.

    task_ids: strings; content: a hash of what each of them asks; right: its letter from 0, -1 unlabelled;
    columns: by voter, and `vote`
    """

    name: str
    run: RunDir
    task_ids: "pa.Array[Any]"
    content: "pa.Array[Any]"
    right: Codes
    columns: dict[str, Column]


def compare(places: Sequence[str]) -> dict[str, Any]:
    """Compare runs by the paired differences of their voters; of one run, return its report.

    Raises:
        UserError: A place holds no finished run, or the runs were asked other questions.
    """
    runs = [RunDir(place) for place in places]
    if len(runs) == 1:
        return _report(runs[0])
    names = _names([run.shown for run in runs])
    several = [_read(name, run) for name, run in zip(names, runs, strict=True)]
    first = several[0]
    for other in several[1:]:
        _same_questions(first, other)
    return {
        "runs": {one.name: one.run.shown for one in several},
        "questions": len(first.task_ids),
        "labelled": int((first.right >= 0).sum()),
        "comparisons": _pairs(several),
    }


def _pairs(several: Sequence[_Finished]) -> list[dict[str, Any]]:
    """Every two runs' voters of one name, with Holm's correction for all of them."""
    right = several[0].right
    found = []
    for place, one in enumerate(several):
        for other in several[place + 1 :]:
            for voter in [name for name in one.columns if name in other.columns]:
                both = {one.name: one.columns[voter], other.name: other.columns[voter]}
                (pair,) = statistics.compare(_sheet(right, both), both)
                said = [column.letters for column in both.values()]
                told = (said[0] >= 0) & (said[1] >= 0)
                same = float((said[0] == said[1])[told].mean()) if told.any() else None
                scores = dict(zip(("first_accuracy", "second_accuracy"), _accuracies(right, both), strict=True))
                found.append({"voter": voter, **pair, **scores, "same_letter": same})
    for pair, corrected in zip(found, statistics.holm([pair["p"] for pair in found]), strict=True):
        pair["p_holm"] = corrected
    return found


def _accuracies(right: Codes, both: Mapping[str, Column]) -> list[float | None]:
    """Of each on the labelled questions that both were asked."""
    sheet = _sheet(right, both)
    asked: Bits = np.logical_and.reduce([sheet.counted(column) for column in both.values()])
    return [float(sheet.correct(column)[asked].mean()) if asked.any() else None for column in both.values()]


def _sheet(right: Codes, voters: Mapping[str, Column]) -> ScoreTable:
    """A sheet with nothing but letters: questions of other runs are known by their task_id alone."""
    nothing = np.zeros(len(right))
    return ScoreTable(
        right, right, nothing.astype(np.int32), nothing.astype(np.int32), (), right, nothing, dict(voters), {}, {}
    )


def _same_questions(first: _Finished, other: _Finished) -> None:
    if first.task_ids.equals(other.task_ids) and first.content.equals(other.content):
        differ = np.flatnonzero(first.right != other.right)
        if len(differ):
            odd = int(differ[0])
            there, here = _letter(other.right[odd]), _letter(first.right[odd])
            raise UserError(
                f"{other.run.shown}: {safe(first.task_ids[odd].as_py(), 80)} has the answer {there} there and {here} "
                f"in {first.run.shown}; runs are compared on the same labels"
            )
        return
    asked, others = (
        dict(zip(one.task_ids.to_pylist(), one.content.to_pylist(), strict=True)) for one in (first, other)
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
    report = _report(run)  # says in one line what is no finished run
    asked = pa.concat_tables([_asked(run, file) for file in run.files("questions")]).sort_by("task_id").combine_chunks()
    task_ids = asked["task_id"].combine_chunks()
    columns = {voter: _unsaid(len(task_ids)) for voter in report["voters"]}
    for file in reduction.stored(run, reduction.VOTES):
        votes = run.read_table(file, ["voter", "task_id", "status", "letter"])
        places = pc.index_in(votes["task_id"], value_set=task_ids).to_numpy()
        status, said = _codes(votes["status"], STATUSES), _codes(votes["letter"], _NAMES)
        for voter, column in columns.items():
            its = pc.equal(votes["voter"], voter).to_numpy()
            column.status[places[its]], column.letters[places[its]] = status[its], said[its]
    columns[VOTE] = _verdicts(run, task_ids, list(columns.values()))
    return _Finished(name, run, task_ids, asked["content"].combine_chunks(), _codes(asked["answer"], _NAMES), columns)


def _asked(run: RunDir, file: str) -> pa.Table:
    """Of one file of questions, with a hash in the place of their text."""
    table = run.read_table(file, ["task_id", "question", "choices", "answer"])
    content = pa.array([_hash(row) for row in table.to_pylist()], pa.binary(16))
    return table.select(["task_id", "answer"]).append_column("content", content)


def _verdicts(run: RunDir, task_ids: "pa.Array[Any]", voters: Sequence[Column]) -> Column:
    """The verdicts; where every voter failed there is none, and it is not wrong."""
    column = _unsaid(len(task_ids))
    for file in reduction.stored(run, reduction.VERDICTS):
        verdicts = run.read_table(file, ["task_id", "letter"])
        places = pc.index_in(verdicts["task_id"], value_set=task_ids).to_numpy()
        column.letters[places] = _codes(verdicts["letter"], _NAMES)
    failed = np.logical_and.reduce([voter.status == FAILED for voter in voters])
    silent = np.where(failed, FAILED, STATUSES.index("abstained"))
    column.status[:] = np.where(column.letters >= 0, ANSWERED, silent)
    return column


def _unsaid(questions: int) -> Column:
    nothing = np.full(questions, np.nan)
    status = np.full(questions, STATUSES.index("skipped"), dtype=np.int8)
    return Column(status, np.full(questions, -1, dtype=np.int8), nothing, nothing)


def _codes(names: Any, known: Sequence[str]) -> Codes:
    """Their places among the known ones, -1 for none."""
    places: Any = pc.fill_null(pc.index_in(names, value_set=pa.array(known)), -1)
    return np.asarray(places.to_numpy(), dtype=np.int8)


def _report(run: RunDir) -> dict[str, Any]:
    try:
        report = json.loads(run.read("report.json"))
    except (OSError, ValueError, pa.ArrowInvalid):
        report = None
    if not isinstance(report, dict) or "voters" not in report or not run.files("questions"):
        raise UserError(f"{run.shown}: no report.json there; it is no run directory, or its run has not ended")
    return report


def _hash(row: Mapping[str, Any]) -> bytes:
    told = json.dumps([row["question"], row["choices"]], ensure_ascii=True)
    return hashlib.sha256(told.encode()).digest()[:16]


def _names(shown: Sequence[str]) -> list[str]:
    """The last part of each address; with as many parts before it as tell them apart."""
    parts = [PurePosixPath(place).parts for place in shown]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{name} ({number})" for number, name in enumerate(shown, 1)]
