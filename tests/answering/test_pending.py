"""What is still to be asked: all of it once, what is there never again, what failed again."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from codemmlu.answering.asks import Ask
from codemmlu.answering.pending import Pending, known_keys, stored_questions, survey, write_blocks
from codemmlu.rows import Answer, Question, question_from, to_table
from codemmlu.run_dir import RunDir
from tests.samples import ASK, answer, failed, question

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

    counts: Pending
    blocks: tuple[str, ...]


def write_pending(run: RunDir, asks: list[Ask], block: int) -> Due:
    return Due(survey(run, "m", asks), write_blocks(run, "m", asks, block))


def due_in(run: RunDir, blocks: Iterable[str]) -> list[list[tuple[str, list[str]]]]:
    """task_id and asks of every row, block by block."""
    return [[(row["task_id"], row["asks"]) for row in run.read_table(block).to_pylist()] for block in blocks]


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


def test_what_has_an_answer_is_kept_and_what_failed_is_asked_again(run: RunDir) -> None:
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
    assert known_keys(run, "m") == ({ASK.key(QUESTIONS[0])}, set())


def test_nothing_left_is_no_block(run: RunDir) -> None:
    keep(run, "a", map(answer, QUESTIONS))
    pending = write_pending(run, [ASK], 2)
    assert pending == Due(Pending(due=0, questions=0, kept=5, retried=0), ())


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


def test_blocks_of_an_earlier_issue_are_gone(run: RunDir) -> None:
    assert len(write_pending(run, [ASK], 1).blocks) == 5
    keep(run, "a", map(answer, QUESTIONS[:4]))
    pending = write_pending(run, [ASK], 1)
    (block,) = pending.blocks
    assert run.files(block.rpartition("/")[0]) == [block]
    assert len(list(Path(run.path("pending/m")).iterdir())) == 1


def test_a_whole_question_repeated_under_another_id_is_asked_twice(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    twins = [QUESTIONS[0], replace(QUESTIONS[0], task_id="twin")]
    run.write_table("questions/0.parquet", to_table(twins, Question))
    keep(run, "a", [answer(twins[0])])
    pending = write_pending(run, [ASK], 8)
    assert due_in(run, pending.blocks) == [[("twin", [ASK.name])]]
