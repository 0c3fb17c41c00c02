"""The rows that travel through a run: Question, Answer with its parts, Vote, Verdict, with their arrow schemas.

Every step reads and writes these and nothing else. A row's schema carries `SCHEMA_VERSION` in its metadata, so that a
run directory written by another version is refused instead of misread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 3
MAX_CHOICES = 26

Status = Literal["answered", "abstained", "failed"]
# A voter that is asked some questions only has nothing to say about the others: neither right nor wrong.
VoteStatus = Literal["answered", "abstained", "failed", "skipped"]
# What a row was asked for: the questions of the run; examples that something is fitted on; questions without content;
# questions with their right choice moved.
Split = Literal["test", "fit", "null", "swap"]


def letters(n: int) -> str:
    """The first `n` letters of the alphabet, by which `n` choices are named."""
    if not 0 <= n <= MAX_CHOICES:
        raise ValueError(f"{n} choices cannot be lettered: at most {MAX_CHOICES}")
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:n]


@dataclass(frozen=True)
class Question:
    """One multiple-choice question as it is asked. `answer` is the right letter, or None when unlabelled."""

    task_id: str
    subject: str | None
    question: str
    choices: tuple[str, ...]
    answer: str | None
    file: str
    line: int
    position: int = 0  # among all rows of the source, rejected ones included: the order of submission.csv


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be asked, and why. `task_id` is None where it has none of its own (missing or repeated)."""

    task_id: str | None
    reason: str
    file: str
    line: int
    position: int = 0


@dataclass(frozen=True)
class Reading:
    """One look of the model at the letters, in one order of the choices.

    order: order[i] = index of the choice shown at letter i
    logprobs: natural log-probability of each letter, by letter, over the full vocabulary, unmasked
    mass: what the letters hold together, in [0, 1]
    """

    order: tuple[int, ...]
    logprobs: tuple[float, ...]
    mass: float
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: what was asked for, what came back and how the letter was found in it."""

    kind: str
    letter: str | None
    p_true: float | None
    text: str
    found: str


@dataclass(frozen=True)
class Neighbour:
    """A solved example that an ask looked at, and how near it is to the question: cosine, in [-1, 1]."""

    task_id: str
    similarity: float


@dataclass(frozen=True)
class Answer:
    """What one ask gave for one question: every raw reading, so that voters can be computed without asking again.

    letter: the ask's own answer, uncalibrated but where the ask had to calibrate while asking
    retrieved: the examples it was given, nearest first; nearest: the similarity of the nearest example there is, shown
    or not; verbatim: whether an example has the same text. Both null for asks that look at no example.
    started, seconds: Unix time of the ask, and wall time from there to its last token
    """

    key: str
    task_id: str
    split: Split
    ask: str
    status: Status
    letter: str | None
    readings: tuple[Reading, ...]
    turns: tuple[Turn, ...]
    retrieved: tuple[Neighbour, ...]
    nearest: float | None
    verbatim: bool | None
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    started: float
    seconds: float
    error: str | None


@dataclass(frozen=True)
class Vote:
    """What a voter makes of its ask's readings, with what rules may know of the question: everything but its answer.

    probabilities: over the choices, empty unless it answered; and of voters that say letters alone
    choices: how many there are; nearest: the similarity of the nearest solved example, where the voter looked at some
    """

    voter: str
    task_id: str
    position: int
    subject: str | None
    choices: int
    nearest: float | None
    status: VoteStatus
    letter: str | None
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """The vote's answer to one question, in the order of its choices. No letter: nobody answered."""

    task_id: str
    position: int
    letter: str | None
    probabilities: tuple[float, ...]
    rule: str


def _schema(columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(list(columns), metadata={"codemmlu.schema": str(SCHEMA_VERSION)})


_READING = pa.struct(
    [
        ("order", pa.list_(pa.int8())),
        ("logprobs", pa.list_(pa.float32())),
        ("mass", pa.float32()),
        ("prompt_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
    ]
)
_TURN = pa.struct(
    [
        ("kind", pa.string()),
        ("letter", pa.string()),
        ("p_true", pa.float32()),
        ("text", pa.string()),
        ("found", pa.string()),
    ]
)

# A column of 2 GiB overflows pa.string(): questions and choices are the only texts without a bound of their own.
_TEXT = pa.large_string()

QUESTION = _schema(
    [
        ("task_id", pa.string()),
        ("subject", pa.string()),
        ("question", _TEXT),
        ("choices", pa.list_(_TEXT)),
        ("answer", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("position", pa.int64()),
    ]
)
REJECTED = _schema(
    [
        ("task_id", pa.string()),
        ("reason", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("position", pa.int64()),
    ]
)
ANSWER = _schema(
    [
        ("key", pa.string()),
        ("task_id", pa.string()),
        ("split", pa.string()),
        ("ask", pa.string()),
        ("status", pa.string()),
        ("letter", pa.string()),
        ("readings", pa.list_(_READING)),
        ("turns", pa.list_(_TURN)),
        ("retrieved", pa.list_(pa.struct([("task_id", pa.string()), ("similarity", pa.float32())]))),
        ("nearest", pa.float32()),
        ("verbatim", pa.bool_()),
        ("prompt_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("generated_tokens", pa.int64()),
        ("started", pa.float64()),
        ("seconds", pa.float64()),
        ("error", pa.string()),
    ]
)
VOTE = _schema(
    [
        ("voter", pa.string()),
        ("task_id", pa.string()),
        ("position", pa.int64()),
        ("subject", pa.string()),
        ("choices", pa.int8()),
        ("nearest", pa.float32()),
        ("status", pa.string()),
        ("letter", pa.string()),
        ("probabilities", pa.list_(pa.float64())),
    ]
)
VERDICT = _schema(
    [
        ("task_id", pa.string()),
        ("position", pa.int64()),
        ("letter", pa.string()),
        ("probabilities", pa.list_(pa.float64())),
        ("rule", pa.string()),
    ]
)

Row = Question | Rejected | Answer | Vote | Verdict
SCHEMAS: dict[type[Row], pa.Schema] = {
    Question: QUESTION,
    Rejected: REJECTED,
    Answer: ANSWER,
    Vote: VOTE,
    Verdict: VERDICT,
}


def to_table(rows: Iterable[Row], kind: type[Row]) -> pa.Table:
    """Rows of one kind as an arrow table with that kind's schema."""
    told = asdict if kind is Answer else vars  # only an answer has rows in it, and runs have millions of the others
    return pa.Table.from_pylist([told(row) for row in rows], schema=SCHEMAS[kind])


_QUESTION_FIELDS = tuple(field.name for field in fields(Question))


def question_from(row: Mapping[str, Any]) -> Question:
    """A Question out of a row of a table with (at least) the QUESTION columns."""
    known = {name: row[name] for name in _QUESTION_FIELDS}
    return Question(**{**known, "choices": tuple(known["choices"])})


def answer_from(row: Mapping[str, Any]) -> Answer:
    """An Answer out of a row of a table with the ANSWER columns."""
    readings = tuple(
        Reading(**{**r, "order": tuple(r["order"]), "logprobs": tuple(r["logprobs"])}) for r in row["readings"]
    )
    turns = tuple(Turn(**turn) for turn in row["turns"])
    retrieved = tuple(Neighbour(**neighbour) for neighbour in row["retrieved"])
    return Answer(**{**row, "readings": readings, "turns": turns, "retrieved": retrieved})
