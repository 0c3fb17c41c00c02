"""What is still to be asked: all of it once, what is there never again, what failed again."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from codemmlu.dataset.stored import stored_questions
from codemmlu.inference.answer_store import AnswerKeySet, known_keys
from codemmlu.inference.backlog import (
    BacklogCounts,
    PendingFolder,
    StageParameters,
    WorkItem,
    count_backlog,
    write_backlog,
)
from codemmlu.inference.spec import InferenceSpec
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, question_from, to_table
from tests.support.rows import ASK, answer, failed, question

QUESTIONS = [question(f"t{n}") for n in range(5)]
OTHER = replace(ASK, template="reference")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with five questions in two files, and no answers."""
    made = RunDir(str(tmp_path))
    made.write_table("questions/000000.parquet", to_table(QUESTIONS[:3], Question))
    made.write_table("questions/000001.parquet", to_table(QUESTIONS[3:], Question))
    return made


def keep(run: RunDir, name: str, answers: Iterable[Answer]) -> None:
    run.write_table(f"answers/m/{name}.parquet", to_table(answers, Answer))


@dataclass(frozen=True)
class Due:
    """What is surveyed and what is written."""

    counts: BacklogCounts
    blocks: tuple[str, ...]


def write_pending(run: RunDir, asks: list[InferenceSpec], block: int) -> Due:
    items = [WorkItem(one, "test", tuple(asks)) for one in stored_questions(run)]
    known = known_keys(run, "m")
    counts = count_backlog(known, items)
    run.clear("pending/m")
    blocks, due = write_backlog(PendingFolder(run, "pending/m/issue", block), known.answered, items, {})
    assert due == counts.due, "what is surveyed is what is written"
    return Due(counts, tuple(f"pending/m/issue/{number:06d}.parquet" for number in range(blocks)))


def due_in(run: RunDir, blocks: Iterable[str]) -> list[list[tuple[str, list[str]]]]:
    """task_id and asks of every row, block by block."""
    rows = [run.read_table(block).to_pylist() for block in blocks]
    return [[(row["task_id"], [asked["name"] for asked in row["asks"]]) for row in block] for block in rows]


def test_at_first_everything_is_due(run: RunDir) -> None:
    pending = write_pending(run, [ASK], 2)
    assert (pending.counts.due, pending.counts.kept, pending.counts.retried) == (5, 0, 0)
    only = [ASK.name]
    assert due_in(run, pending.blocks) == [
        [("t0", only), ("t1", only)],
        [("t2", only), ("t3", only)],
        [("t4", only)],
    ]


def test_a_pending_row_is_the_whole_question_without_its_answer(run: RunDir) -> None:
    pending = write_pending(run, [ASK], 5)
    written = [question_from(row) for row in run.read_table(pending.blocks[0]).to_pylist()]
    assert all(one.answer for one in QUESTIONS)
    assert written == [replace(one, answer=None) for one in QUESTIONS], "who answers a question never sees its answer"
    assert list(stored_questions(run)) == QUESTIONS


def test_answers_are_kept_and_what_failed_is_asked_again(run: RunDir) -> None:
    abstained = answer(QUESTIONS[1], status="abstained", letter=None)
    keep(run, "a", [answer(QUESTIONS[0]), abstained, failed(QUESTIONS[2])])
    pending = write_pending(run, [ASK], 8)
    assert (pending.counts.due, pending.counts.kept, pending.counts.retried) == (3, 2, 1)
    assert due_in(run, pending.blocks) == [[("t2", [ASK.name]), ("t3", [ASK.name]), ("t4", [ASK.name])]]


@pytest.mark.parametrize("first", ["failed", "answered"])
def test_what_failed_and_was_answered_in_another_issue_is_kept(run: RunDir, first: str) -> None:
    both = [failed(QUESTIONS[0]), answer(QUESTIONS[0])]
    for name, row in zip("ab", both if first == "failed" else both[::-1], strict=True):
        keep(run, name, [row])
    pending = write_pending(run, [ASK], 8)
    assert (pending.counts.due, pending.counts.kept, pending.counts.retried) == (4, 1, 0)
    answered, failed_keys = known_keys(run, "m")
    assert (len(answered), len(failed_keys)) == (1, 1)
    assert ASK.key(QUESTIONS[0]) in answered
    assert ASK.key(QUESTIONS[1]) not in answered


def test_nothing_left_is_no_block(run: RunDir) -> None:
    keep(run, "a", map(answer, QUESTIONS))
    pending = write_pending(run, [ASK], 2)
    assert pending == Due(BacklogCounts(due=0, questions=0, kept=5, retried=0), ())


def test_a_new_voter_asks_only_what_is_new(run: RunDir) -> None:
    keep(run, "a", map(answer, QUESTIONS[:4]))
    pending = write_pending(run, [ASK, OTHER], 8)
    assert (pending.counts.due, pending.counts.kept) == (6, 4)
    (rows,) = due_in(run, pending.blocks)
    assert rows == [(q.task_id, [OTHER.name]) for q in QUESTIONS[:4]] + [("t4", [ASK.name, OTHER.name])]


def test_answers_to_something_else_count_for_nothing(run: RunDir) -> None:
    other = replace(ASK, weights="w2")
    keep(run, "a", [answer(QUESTIONS[0], other), answer(replace(QUESTIONS[1], question="another"))])
    keep(run, "b", [failed(QUESTIONS[2], other)])
    run.write_table("answers/n/a.parquet", to_table([answer(QUESTIONS[3])], Answer))
    pending = write_pending(run, [ASK], 8)
    assert (pending.counts.due, pending.counts.kept, pending.counts.retried) == (5, 0, 0)


def test_a_row_carries_its_split_and_the_prior_of_its_size(run: RunDir) -> None:
    two = question("t7", choices=("this", "that"))
    items = [WorkItem(QUESTIONS[0], "test", (ASK, OTHER)), WorkItem(two, "null", (OTHER,))]
    priors = {OTHER.name: StageParameters({4: (-0.5, -2.0, -2.0, -2.0)})}
    write_backlog(PendingFolder(run, "pending/m/issue", 8), AnswerKeySet(), items, priors)
    first, second = run.read_table("pending/m/issue/000000.parquet").to_pylist()
    assert [first["split"], second["split"]] == ["test", "null"]
    assert [asked["log_prior"] for asked in first["asks"]] == [None, [-0.5, -2.0, -2.0, -2.0]]
    (uniform,) = second["asks"]
    assert uniform["log_prior"] == pytest.approx([-0.6931, -0.6931], abs=1e-4), "nothing was seen of two choices"


def test_a_question_repeated_under_another_id_is_asked_twice(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    twins = [QUESTIONS[0], replace(QUESTIONS[0], task_id="twin")]
    run.write_table("questions/0.parquet", to_table(twins, Question))
    keep(run, "a", [answer(twins[0])])
    pending = write_pending(run, [ASK], 8)
    assert due_in(run, pending.blocks) == [[("twin", [ASK.name])]]


def test_a_set_of_keys_tells_each_of_its_own_from_every_other() -> None:
    ends = ["00" * 16, "00" * 15 + "01", "01" + "00" * 15, "ff" * 16, "0a" * 15 + "00"]
    keys = AnswerKeySet([*ends[:3], ends[0]])
    assert len(keys) == 3
    assert [end in keys for end in ends] == [True, True, True, False, False]
    assert "00" * 16 not in AnswerKeySet()
