"""The backlog of a pool: the questions of a run without a durable answer under some inference spec."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import pyarrow as pa

from codemmlu.inference.answer_store import AnswerKeySet, KnownKeys
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Prior, of_size
from codemmlu.run_dir import RunDir
from codemmlu.schema import QUESTION, Question, Split

# The name of a spec, and the parameters that earlier stages found, see StageParameters; null where it needs none.
_SPEC = pa.struct([("name", pa.string()), ("log_prior", pa.list_(pa.float64())), ("threshold", pa.float64())])
PENDING = QUESTION.append(pa.field("split", pa.string())).append(pa.field("asks", pa.list_(_SPEC)))


@dataclass(frozen=True)
class WorkItem:
    """A question, its purpose and the specs to answer it with; the items of a stage share no answer key."""

    question: Question
    split: Split
    asks: tuple[InferenceSpec, ...]

    @cached_property  # The keys are needed more than once, and a run has millions of items.
    def keys(self) -> tuple[str, ...]:
        """Return the answer key of each spec, in the order of the specs."""
        return tuple(spec.key(self.question) for spec in self.asks)


@dataclass(frozen=True)
class BacklogCounts:
    """What one pool has left to do.

    Attributes:
        due: Pairs of a question and a spec that have no durable answer.
        questions: Questions in at least one of these pairs.
        kept: Pairs that have a durable answer.
        retried: Pairs that are due and whose earlier answer is a failed one.
    """

    due: int
    questions: int
    kept: int
    retried: int

    def __add__(self, other: "BacklogCounts") -> "BacklogCounts":
        """Return the sum, field by field."""
        mine, theirs = asdict(self), asdict(other)
        return BacklogCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True)
class StageParameters:
    """What a spec needs from earlier stages: the letter prior, or the threshold of its checks."""

    prior: Prior | None = None
    threshold: float | None = None


NOTHING = BacklogCounts(0, 0, 0, 0)


def count_backlog(known: KnownKeys, items: Iterable[WorkItem]) -> BacklogCounts:
    """Count what has no durable answer; a failed row is no answer, so its question is asked again."""
    due = questions = kept = retried = 0
    for item in items:
        missing = [key for key in item.keys if key not in known.answered]
        due += len(missing)
        questions += bool(missing)
        kept += len(item.asks) - len(missing)
        retried += sum(key in known.failed for key in missing)
    return BacklogCounts(due, questions, kept, retried)


@dataclass(frozen=True)
class PendingFolder:
    """Where the PENDING files of a stage go.

    Attributes:
        run: The run directory.
        folder: The folder below the run directory.
        per_block: Questions in a file.
    """

    run: RunDir
    folder: str
    per_block: int


def write_backlog(
    target: PendingFolder,
    answered: AnswerKeySet,
    items: Iterable[WorkItem],
    parameters: Mapping[str, StageParameters],
) -> tuple[int, int]:
    """Write the items that `count_backlog` counts as PENDING files.

    Args:
        target: Where the files go.
        answered: The keys with a durable answer.
        items: The work items of a stage.
        parameters: By the names of the specs that need some.

    Returns:
        The number of files, and the number of answers due.
    """
    blocks = due = 0
    waiting: list[dict[str, object]] = []

    def write() -> None:
        nonlocal blocks
        target.run.write_table(f"{target.folder}/{blocks:06d}.parquet", pa.Table.from_pylist(waiting, schema=PENDING))
        blocks += 1
        waiting.clear()

    for item in items:
        question = item.question
        specs = [
            _pending_spec(spec, parameters.get(spec.name, StageParameters()), len(question.choices))
            for spec, key in zip(item.asks, item.keys, strict=True)
            if key not in answered
        ]
        if specs:
            # The right answer is left out: what answers a question, or learns while answering, cannot see it.
            waiting.append({**vars(question), "answer": None, "split": item.split, "asks": specs})
            due += len(specs)
        if len(waiting) == target.per_block:
            write()
    if waiting:
        write()
    return blocks, due


def _pending_spec(spec: InferenceSpec, parameters: StageParameters, size: int) -> dict[str, object]:
    log_prior = None if parameters.prior is None else of_size(parameters.prior, size)
    return {"name": spec.name, "log_prior": log_prior, "threshold": parameters.threshold}
