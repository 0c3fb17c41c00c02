"""What is still to be asked: the questions of a run against the durable answers it already has."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from codemmlu.answering.asks import Ask
from codemmlu.rows import QUESTION, Question, question_from
from codemmlu.run_dir import RunDir

PENDING = QUESTION.append(pa.field("asks", pa.list_(pa.string())))


@dataclass(frozen=True)
class Pending:
    """What one pool has to do: `due` asks of `questions` questions; `kept` answers are there already.

    retried: asks among the due whose earlier answer is a failed one
    """

    due: int
    questions: int
    kept: int
    retried: int


def stored_questions(run: RunDir) -> Iterator[Question]:
    """The accepted questions of a run, longest first within each file."""
    for name in run.files("questions"):
        for row in run.read_table(name).to_pylist():
            yield question_from(row)


def survey(run: RunDir, pool: str, asks: Sequence[Ask]) -> Pending:
    """Counts what has no durable answer. A failed row is none: it is asked again."""
    answered, failed = known_keys(run, pool)
    due = questions = kept = retried = 0
    for question in stored_questions(run):
        missing = [key for key in (ask.key(question) for ask in asks) if key not in answered]
        due += len(missing)
        questions += bool(missing)
        kept += len(asks) - len(missing)
        retried += sum(key in failed for key in missing)
    return Pending(due, questions, kept, retried)


def write_blocks(run: RunDir, pool: str, asks: Sequence[Ask], block: int) -> tuple[str, ...]:
    """Writes what `survey` counted as files of `block` questions, each with the names of the asks it is due."""
    answered, _ = known_keys(run, pool)
    run.clear(f"pending/{pool}")
    folder = f"pending/{pool}/{uuid.uuid4().hex[:8]}"  # a job that was killed may still be reading the last issue's
    blocks: list[str] = []
    waiting: list[dict[str, object]] = []

    def write() -> None:
        blocks.append(f"{folder}/{len(blocks):06d}.parquet")
        run.write_table(blocks[-1], pa.Table.from_pylist(waiting, schema=PENDING))
        waiting.clear()

    for question in stored_questions(run):
        if missing := [ask.name for ask in asks if ask.key(question) not in answered]:
            # Without its answer: what answers a question, or learns while answering, cannot see what is right.
            waiting.append({**asdict(question), "answer": None, "asks": missing})
        if len(waiting) == block:
            write()
    if waiting:
        write()
    return tuple(blocks)


def known_keys(run: RunDir, pool: str) -> tuple[set[str], set[str]]:
    """The keys with a durable answer, and those that only ever failed."""
    answered: set[str] = set()
    failed: set[str] = set()
    for name in run.files(f"answers/{pool}"):
        table = run.read_table(name, columns=["key", "status"])
        for row in table.to_pylist():
            (failed if row["status"] == "failed" else answered).add(row["key"])
    return answered, failed - answered
