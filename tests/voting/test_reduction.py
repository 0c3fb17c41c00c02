"""The reduce: what part a question belongs to, and that many parts say what one does."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.inference.calibration import Calibration
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.recipe import DirectVoter, WhenSettings
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, to_table
from codemmlu.voting import reduction
from codemmlu.voting.aggregation import Partition
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.reduction import OnePartition, PartialResult, Partitions, T, part_of, parts
from tests.support.rows import ASK, answer, failed, question, reading

OTHER = replace(ASK, template="reference")
COUNT = 60
SUBMISSION = {f"t{i}": "ABC"[i % 3] for i in range(0, COUNT, 2)}
ASKED = [question(f"t{i}", question=f"Question {i}?", answer="ABCD"[i % 4]) for i in range(COUNT)]


class SeveralHere:
    """Partitions as Ray makes them, in this process; parts come last first."""

    def __init__(self, run: RunDir, pools: Sequence[str], count: int) -> None:
        self.count = count
        self.parts = []
        questions = pa.concat_tables([run.read_table(name) for name in run.files("questions")])
        stored = {pool: [run.read_table(name) for name in run.files(f"answers/{pool}")] for pool in pools}
        for number in reversed(range(count)):
            mine = _of_part(questions, number, count)
            answers = {pool: [_of_part(table, number, count) for table in tables] for pool, tables in stored.items()}
            if mine.num_rows:
                self.parts.append((number, Partition.of(mine, answers)))

    def map(self, task: Callable[[int, Partition], PartialResult[T]]) -> list[PartialResult[T]]:
        """See Partitions."""
        told = (task(number, part) for number, part in self.parts)
        return [(columns, copy.deepcopy(sums)) for columns, sums in told]

    def each(self, files: Sequence[str], task: Callable[[str], pa.Table]) -> list[pa.Table]:
        """See Partitions."""
        return [task(name) for name in reversed(files)]


def partitions(run: RunDir, most: int = COUNT) -> Partitions:
    """Cut the questions into parts of at most `most`."""
    return OnePartition(run, ["m"]) if most >= COUNT else SeveralHere(run, ["m"], parts(COUNT, most))


def _of_part(table: pa.Table, number: int, count: int) -> pa.Table:
    return table.filter(pa.array([part_of(str(name), count) == number for name in table["task_id"].to_pylist()]))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run directory with 60 questions and answers to most of them, in two files each."""
    run = RunDir(str(tmp_path))
    answers = [answer_of(one, ask, number) for ask in (ASK, OTHER) for number, one in enumerate(ASKED[2:])]
    gone = answer(question("gone", question="Asked in an earlier issue?"), letter="C")
    for number in (0, 1):
        run.write_table(f"questions/{number:06d}.parquet", to_table(ASKED[number::2], Question))
        run.write_table(f"answers/m/{number}.parquet", to_table([*answers[number::2], gone], Answer))
    return run


def answer_of(of: Question, ask: Any, number: int) -> Answer:
    """An answer of which every seventh failed, with log-probabilities of its own."""
    if number % 7 == 6:
        return failed(of, ask, error=f"why {number}")
    logprobs = np.random.default_rng([number, ask is ASK]).normal(-2, 1, 4)
    return answer(of, ask, readings=(reading(logprobs.tolist()),), prompt_tokens=number, started=float(3 * number))


def ensemble() -> Ensemble:
    """A plain voter, one that divides out what all its answers say, a cascade behind that one, and a submission."""
    when = WhenSettings(margin_below=0.3, of=("calibrated",))
    calibrated = DirectVoter(model="m", calibrate="prior")
    cascade = DirectVoter(model="m", template="reference", calibrate="prior", when=when)
    voters = (
        ResolvedVoter("plain", DirectVoter(model="m"), "m", ASK),
        ResolvedVoter("cascade", cascade, "m", OTHER, Calibration(OTHER)),
        ResolvedVoter("calibrated", calibrated, "m", ASK, Calibration(ASK)),
    )
    return Ensemble({voter.name: voter for voter in voters}, {"theirs": SUBMISSION}, (), 4)


@given(st.text(max_size=40), st.integers(1, 1000))
def test_a_question_belongs_to_one_part(task_id: str, count: int) -> None:
    assert 0 <= part_of(task_id, count) < count
    assert part_of(task_id, count) == part_of(task_id, count)


def test_a_surrogate_in_a_name_belongs_to_a_part_too() -> None:
    assert part_of("\udc80", 7) in range(7)


def test_parts_are_of_like_size() -> None:
    sizes = np.bincount([part_of(f"t{i}", 8) for i in range(8000)], minlength=8)
    assert sizes.min() > 900
    assert sizes.max() < 1100


def test_every_process_puts_a_question_into_the_same_part() -> None:
    """Written out: the hash that Python has of text is another one in each process."""
    assert [part_of(name, 1000) for name in ("t0", "t1", "é")] == [908, 986, 51]


@given(st.integers(0, 10**7), st.integers(1, 10**5))
def test_there_are_as_many_parts_as_hold_all_questions(questions: int, most: int) -> None:
    count = parts(questions, most)
    assert count >= 1
    assert count * most >= questions
    assert (count - 1) * most < max(1, questions)


def test_many_parts_say_what_one_says(run: RunDir) -> None:
    one = reduction.votes(run, ensemble(), partitions(run))
    election = reduction.Election("log_pool", EnsembleModel())
    whole, verdicts = run.read_table("voters.parquet"), reduction.verdicts(run, election, partitions(run))
    in_order = list(reduction.in_order(run))
    assert reduction.stored(run, reduction.VOTES) == ["voters.parquet"]

    several = reduction.votes(run, ensemble(), partitions(run, 9))
    files = reduction.stored(run, reduction.VOTES)
    assert len(files) == parts(COUNT, 9) == 7
    assert _rows(several.columns) == _rows(one.columns)
    assert several.sums == one.sums
    assert several.priors.keys() == one.priors.keys() == {"plain", "calibrated", "cascade"}
    for name in ("calibrated", "cascade"):
        here, there = one.priors[name], several.priors[name]
        assert isinstance(here, dict)
        assert isinstance(there, dict)
        assert [*there] == [*here] == [4]
        assert there[4] == pytest.approx(here[4])
    assert _sorted(pa.concat_tables([run.read_table(name) for name in files])) == _sorted(whole)
    assert _rows(reduction.verdicts(run, election, partitions(run, 9))) == _rows(verdicts)
    assert list(reduction.in_order(run)) == in_order


def _rows(table: pa.Table) -> list[str]:
    """As text, in which NaN is NaN."""
    return [str(row) for row in table.to_pylist()]


def _sorted(votes: pa.Table) -> pa.Table:
    return votes.sort_by([("voter", "ascending"), ("position", "ascending")]).combine_chunks()


def test_one_part_after_many_leaves_nothing_of_them(run: RunDir) -> None:
    for most in (9, COUNT):
        reduction.votes(run, ensemble(), partitions(run, most))
        reduction.verdicts(run, reduction.Election("majority", EnsembleModel()), partitions(run, most))
        several = most < COUNT
        assert (run.has_folder(reduction.VOTES), run.has_folder(reduction.VERDICTS)) == (several, several)
    assert reduction.stored(run, reduction.VOTES) == [reduction.VOTES]
    assert reduction.stored(run, reduction.VERDICTS) == [reduction.VERDICTS]


def test_columns_stand_in_the_order_of_questions(run: RunDir) -> None:
    columns = reduction.votes(run, ensemble(), partitions(run, 9)).columns
    assert columns["position"].to_pylist() == list(range(COUNT))
    assert columns["right"].to_pylist() == [i % 4 for i in range(COUNT)]
    theirs: Any = columns["letter/theirs"].to_pylist()
    assert theirs == ["ABC".index(SUBMISSION[one.task_id]) if one.task_id in SUBMISSION else -1 for one in ASKED]
    assert [verdict.position for verdict in reducing_verdicts(run)] == list(range(COUNT))


def reducing_verdicts(run: RunDir) -> list[Any]:
    reduction.verdicts(run, reduction.Election("log_pool", EnsembleModel()), partitions(run, 9))
    return list(reduction.in_order(run))


def test_a_cascade_is_asked_where_calibrated_voters_are_unclear(run: RunDir) -> None:
    """Its prior waits for theirs: what they say, calibrated, decides which answers are its own."""
    reduced = reduction.votes(run, ensemble(), partitions(run, 9))
    votes = pa.concat_tables([run.read_table(name) for name in reduction.stored(run, reduction.VOTES)])
    calibrated = {row["task_id"]: row for row in _of(votes, "calibrated")}
    skipped = {row["task_id"] for row in _of(votes, "cascade") if row["status"] == "skipped"}
    clear = set()
    for name, row in calibrated.items():
        best = sorted(row["probabilities"])
        if row["status"] == "answered" and best[-1] - best[-2] >= 0.3:
            clear.add(name)
    assert skipped == clear
    assert 0 < len(skipped) < COUNT
    assert reduced.priors["plain"] is None
    assert reduced.priors["calibrated"] != reduced.priors["cascade"]


def _of(votes: pa.Table, voter: str) -> list[dict[str, Any]]:
    return votes.filter(pc.equal(votes["voter"], pa.scalar(voter))).to_pylist()


def test_rules_that_need_a_fit_are_told_where_there_is_one() -> None:
    plain = reduction.available(EnsembleModel(), "majority")
    assert "stacked" not in plain
    assert "majority" in plain
    assert "stacked" in reduction.available(EnsembleModel(), "stacked")
    assert "stacked" in reduction.available(EnsembleModel(stacked={"bias": 0.0}), "majority")
