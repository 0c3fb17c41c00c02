"""Comparing: several runs on the same questions, voter by voter and verdict by verdict."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu import reducing
from codemmlu.command import Outcome
from codemmlu.errors import UserError
from codemmlu.report import statistics
from codemmlu.report.sheet import Bits, Codes, Column, Sheet
from codemmlu.report.summary import VOTE
from codemmlu.report.terminal import Terminal, comparison_table, safe, voters_table
from codemmlu.rows import letters
from codemmlu.run_dir import RunDir
from codemmlu.voting.ballots import ANSWERED, FAILED, STATUSES


@dataclass(frozen=True)
class _Finished:
    """A run that has been voted on. questions: a hash of what was asked, by task_id; columns: by voter, and `vote`."""

    name: str
    run: RunDir
    questions: dict[str, bytes]
    right: dict[str, str | None]
    columns: dict[str, dict[str, tuple[str, str | None]]]


def compare(terminal: Terminal, places: Sequence[str]) -> Outcome:
    """Paired differences between runs. Raises UserError where one is no finished run, or was asked other questions."""
    runs = [RunDir(place) for place in places]
    names = _names([run.shown for run in runs])
    if len(runs) == 1:
        report = _report(runs[0])
        terminal.show(voters_table(report))
        return Outcome(report, 0)
    several = [_read(name, run) for name, run in zip(names, runs, strict=True)]
    first = several[0]
    for other in several[1:]:
        _same_questions(first, other)
    pairs = _pairs(several)
    told = {
        "runs": {one.name: one.run.shown for one in several},
        "questions": len(first.questions),
        "labelled": sum(letter is not None for letter in first.right.values()),
        "comparisons": pairs,
    }
    if not pairs:
        terminal.say("No voter of one run has the name of another's, so there is nothing to compare.")
        return Outcome(told, 0)
    terminal.show(comparison_table(told))
    if not told["labelled"]:
        terminal.say("Nothing is labelled: what can be told is how often two runs say the same.")
    return Outcome(told, 0)


def _pairs(several: Sequence[_Finished]) -> list[dict[str, Any]]:
    """Every two runs' voters of one name, with Holm's correction for all of them."""
    ids = sorted(several[0].questions)
    names = letters(26)
    right = np.array([-1 if (a := several[0].right[i]) is None else names.index(a) for i in ids], dtype=np.int8)
    found = []
    for place, one in enumerate(several):
        for other in several[place + 1 :]:
            for voter in [name for name in one.columns if name in other.columns]:
                both = {one.name: _column(one, voter, ids), other.name: _column(other, voter, ids)}
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


def _sheet(right: Codes, voters: Mapping[str, Column]) -> Sheet:
    """A sheet with nothing but letters: questions of other runs are known by their task_id alone."""
    nothing = np.zeros(len(right))
    return Sheet(
        right, right, nothing.astype(np.int32), nothing.astype(np.int32), (), right, nothing, dict(voters), {}, {}
    )


def _column(one: _Finished, voter: str, ids: Sequence[str]) -> Column:
    names = letters(26)
    rows = [one.columns[voter][task_id] for task_id in ids]
    status = np.array([STATUSES.index(status) for status, _ in rows], dtype=np.int8)
    said = np.array([-1 if letter is None else names.index(letter) for _, letter in rows], dtype=np.int8)
    nothing = np.full(len(ids), np.nan)
    return Column(status, said, nothing, nothing)


def _same_questions(first: _Finished, other: _Finished) -> None:
    if first.questions == other.questions:
        if first.right != other.right:
            odd = next(name for name, letter in first.right.items() if other.right[name] != letter)
            raise UserError(
                f"{other.run.shown}: {safe(odd, 80)} has the answer {other.right[odd]} there and {first.right[odd]} in "
                f"{first.run.shown}; runs are compared on the same labels"
            )
        return
    shared = first.questions.keys() & other.questions.keys()
    differ = sum(first.questions[name] != other.questions[name] for name in shared)
    raise UserError(
        f"{other.run.shown}: other questions than in {first.run.shown}: {len(first.questions) - len(shared):,} are "
        f"missing, {len(other.questions) - len(shared):,} are new and {differ:,} read differently; runs are compared "
        "on the same questions"
    )


def _read(name: str, run: RunDir) -> _Finished:
    _report(run)  # says in one line what is no finished run
    asked: dict[str, bytes] = {}
    right: dict[str, str | None] = {}
    for file in run.files("questions"):
        for row in run.read_table(file, ["task_id", "question", "choices", "answer"]).to_pylist():
            asked[row["task_id"]] = _hash(row)
            right[row["task_id"]] = row["answer"]
    columns: dict[str, dict[str, tuple[str, str | None]]] = {}
    for file in reducing.stored(run, reducing.VOTES):
        for row in run.read_table(file, ["voter", "task_id", "status", "letter"]).to_pylist():
            columns.setdefault(row["voter"], {})[row["task_id"]] = (row["status"], row["letter"])
    columns[VOTE] = _verdicts(run, list(columns.values()))
    return _Finished(name, run, asked, right, columns)


def _verdicts(run: RunDir, voters: list[dict[str, tuple[str, str | None]]]) -> dict[str, tuple[str, str | None]]:
    """The verdicts; where every voter failed there is none, and it is not wrong."""
    found: dict[str, tuple[str, str | None]] = {}
    for one in reducing.in_order(run):
        failed = all(column[one.task_id][0] == STATUSES[FAILED] for column in voters)
        silent = STATUSES[FAILED] if failed else "abstained"
        found[one.task_id] = (STATUSES[ANSWERED] if one.letter else silent, one.letter)
    return found


def _report(run: RunDir) -> dict[str, Any]:
    try:
        report = json.loads(run.read("report.json"))
    except (OSError, ValueError, pa.ArrowInvalid):
        raise UserError(
            f"{run.shown}: no report.json there; it is no run directory, or its run has not ended"
        ) from None
    assert isinstance(report, dict)
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
