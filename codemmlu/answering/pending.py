"""What is still to be asked: the questions of a run against the durable answers it already has."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pyarrow as pa

from codemmlu.answering.asks import Ask
from codemmlu.rows import QUESTION, Question, question_from
from codemmlu.run_dir import RunDir

PENDING = QUESTION.append(pa.field("asks", pa.list_(pa.string())))


@dataclass(frozen=True)
class Pending:
    """What one pool has to do: `due` asks in the files `blocks`; `kept` answers are there already.

    retried: asks among the due whose earlier answer is a failed one.
    """

    due: int
    kept: int
    retried: int
    blocks: tuple[str, ...]


def stored_questions(run: RunDir) -> Iterator[Question]:
    """The accepted questions of a run, longest first within each file."""
    for name in run.files("questions"):
        for row in run.read_table(name).to_pylist():
            yield question_from(row)


def write_pending(run: RunDir, pool: str, asks: Iterable[Ask], block: int) -> Pending:
    """Writes what has no durable answer as files of `block` questions, each with the names of the asks it is due.

    A failed row is no answer: it is asked again.
    """
    asks = list(asks)
    run.clear(f"pending/{pool}")
    answered, failed = known_keys(run, pool)
    due = kept = retried = 0
    blocks: list[str] = []
    waiting: list[dict[str, object]] = []
    for question in stored_questions(run):
        keys = {ask.name: ask.key(question) for ask in asks}
        missing = [name for name, key in keys.items() if key not in answered]
        kept += len(keys) - len(missing)
        retried += sum(keys[name] in failed for name in missing)
        if missing:
            due += len(missing)
            waiting.append({**asdict(question), "asks": missing})
        if len(waiting) == block:
            blocks.append(_write_block(run, pool, len(blocks), waiting))
            waiting = []
    if waiting:
        blocks.append(_write_block(run, pool, len(blocks), waiting))
    return Pending(due, kept, retried, tuple(blocks))


def _write_block(run: RunDir, pool: str, number: int, rows: list[dict[str, object]]) -> str:
    name = f"pending/{pool}/{number:06d}.parquet"
    run.write_table(name, pa.Table.from_pylist(rows, schema=PENDING))
    return name


def known_keys(run: RunDir, pool: str) -> tuple[set[str], set[str]]:
    """The keys with a durable answer, and those that only ever failed."""
    answered: set[str] = set()
    failed: set[str] = set()
    for name in run.files(f"answers/{pool}"):
        table = run.read_table(name, columns=["key", "status"])
        for row in table.to_pylist():
            (failed if row["status"] == "failed" else answered).add(row["key"])
    return answered, failed - answered
