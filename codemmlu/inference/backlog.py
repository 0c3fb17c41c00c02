"""What is still to be asked: the questions of a run against the durable answers it already has."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import pyarrow as pa

from codemmlu.inference.answer_store import known_keys
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Prior, of_size
from codemmlu.run_dir import RunDir
from codemmlu.schema import QUESTION, Question, Split

# What an ask has to know that earlier waves found out, see Given; null where it needs nothing.
_ASKED = pa.struct([("name", pa.string()), ("log_prior", pa.list_(pa.float64())), ("threshold", pa.float64())])
PENDING = QUESTION.append(pa.field("split", pa.string())).append(pa.field("asks", pa.list_(_ASKED)))


@dataclass(frozen=True)
class WorkItem:
    """A question, what it is asked for, and in which ways. No two items of a wave ask the same."""

    question: Question
    split: Split
    asks: tuple[InferenceSpec, ...]

    @cached_property  # asked for more than once, and a run has millions
    def keys(self) -> tuple[str, ...]:
        """Of its asks, in their order."""
        return tuple(ask.key(self.question) for ask in self.asks)


@dataclass(frozen=True)
class BacklogCounts:
    """What one pool has to do: `due` asks of `questions` questions; `kept` answers are there already.

    retried: asks among the due whose earlier answer is a failed one
    """

    due: int
    questions: int
    kept: int
    retried: int

    def __add__(self, other: "BacklogCounts") -> "BacklogCounts":
        mine, its = asdict(self), asdict(other)
        return BacklogCounts(**{name: mine[name] + its[name] for name in mine})


@dataclass(frozen=True)
class StageParameters:
    """What an ask has to be told that earlier waves found out: the letters' prior, or the threshold of its checks."""

    prior: Prior | None = None
    threshold: float | None = None


NOTHING = BacklogCounts(0, 0, 0, 0)


def count_backlog(run: RunDir, pool: str, items: Iterable[WorkItem]) -> BacklogCounts:
    """Counts what has no durable answer. A failed row is none: it is asked again."""
    answered, failed = known_keys(run, pool)
    due = questions = kept = retried = 0
    for item in items:
        missing = [key for key in item.keys if key not in answered]
        due += len(missing)
        questions += bool(missing)
        kept += len(item.asks) - len(missing)
        retried += sum(key in failed for key in missing)
    return BacklogCounts(due, questions, kept, retried)


def write_backlog(
    run: RunDir, pool: str, folder: str, items: Iterable[WorkItem], block: int, given: Mapping[str, StageParameters]
) -> tuple[int, int]:
    """Writes what `survey` counts as files of `block` questions; gives back how many files, and how many asks.

    given: by the names of the asks that need something
    """
    answered, _ = known_keys(run, pool)
    blocks = due = 0
    waiting: list[dict[str, object]] = []

    def write() -> None:
        nonlocal blocks
        run.write_table(f"{folder}/{blocks:06d}.parquet", pa.Table.from_pylist(waiting, schema=PENDING))
        blocks += 1
        waiting.clear()

    for item in items:
        question = item.question
        asks = [
            _asked(ask, given.get(ask.name, StageParameters()), len(question.choices))
            for ask, key in zip(item.asks, item.keys, strict=True)
            if key not in answered
        ]
        if asks:
            # Without its answer: what answers a question, or learns while answering, cannot see what is right.
            waiting.append({**vars(question), "answer": None, "split": item.split, "asks": asks})
            due += len(asks)
        if len(waiting) == block:
            write()
    if waiting:
        write()
    return blocks, due


def _asked(ask: InferenceSpec, given: StageParameters, size: int) -> dict[str, object]:
    log_prior = None if given.prior is None else of_size(given.prior, size)
    return {"name": ask.name, "log_prior": log_prior, "threshold": given.threshold}
