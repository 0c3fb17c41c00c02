"""The rows of a run and their Arrow schemas: Question, Rejected, Answer with its parts, Vote and Verdict.

Every step reads and writes these rows and nothing else. The metadata of a schema carries `SCHEMA_VERSION`, so that a
run directory written by another version is refused instead of misread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 3
MAX_CHOICES = 26

Status = Literal["answered", "abstained", "failed"]
# `skipped`: a voter that is asked only some questions is neither right nor wrong about the others.
VoteStatus = Literal["answered", "abstained", "failed", "skipped"]
# The purpose of a row: the questions of the run; examples for fitting; questions without content; questions with the
# right choice moved.
Split = Literal["test", "fit", "null", "swap"]


def letters(n: int) -> str:
    """Return the first `n` letters of the alphabet, the names of `n` choices."""
    if not 0 <= n <= MAX_CHOICES:
        raise ValueError(f"{n} choices cannot be lettered: at most {MAX_CHOICES}")
    return "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:n]


@dataclass(frozen=True)
class Question:
    """One multiple-choice question as it is asked.

    Attributes:
        answer: The right letter, or None where the question is unlabelled.
        position: Index among all rows of the source, with the rejected rows: the order of submission.csv.
    """

    task_id: str
    subject: str | None
    question: str
    choices: tuple[str, ...]
    answer: str | None
    file: str
    line: int
    position: int = 0


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be asked, and the reason; `task_id` is None where it is missing or repeated."""

    task_id: str | None
    reason: str
    file: str
    line: int
    position: int = 0


@dataclass(frozen=True)
class Reading:
    """The model's probabilities of the letters, for one order of the choices.

    Attributes:
        order: order[i] is the index of the choice shown at letter i.
        logprobs: Natural log-probability of each letter over the full vocabulary, unmasked.
        mass: Total probability of the letters, in [0, 1].
    """

    order: tuple[int, ...]
    logprobs: tuple[float, ...]
    mass: float
    prompt_tokens: int
    cached_tokens: int


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation: the kind of request, the reply, and how its letter was found."""

    kind: str
    letter: str | None
    p_true: float | None
    text: str
    found: str


@dataclass(frozen=True)
class Neighbour:
    """A retrieved solved example, and its cosine similarity to the question, in [-1, 1]."""

    task_id: str
    similarity: float


@dataclass(frozen=True)
class Answer:
    """The result of one inference spec for one question, with raw readings: voters need no new inference.

    Attributes:
        ask: Name of the inference spec.
        letter: The answer of the spec alone, calibrated only where inference itself needs calibration.
        retrieved: The examples shown with the question, nearest first.
        nearest: Similarity of the nearest example, shown or not; None for a spec without examples.
        verbatim: Whether an example has the same text; None for a spec without examples.
        started: Unix time at the start of inference.
        seconds: Wall time from `started` to the last token.
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
    """A voter's result for one question, with all that rules may know of the question except the answer.

    Attributes:
        choices: Number of choices.
        nearest: Similarity of the nearest solved example, for a voter that looks at examples.
        probabilities: Over the choices; empty without an answer, and for voters that give letters alone.
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
    """The verdict on one question, in the order of the question's choices; no letter: no voter answered."""

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

# A column of 2 GiB overflows pa.string(), and only the texts of questions and choices have no bound of their own.
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
    """Return rows of one kind as an Arrow table with the schema of that kind."""
    # Only an answer has rows inside, and a run has millions of the other rows: `vars` spares them a deep copy.
    to_fields = asdict if kind is Answer else vars
    return pa.Table.from_pylist([to_fields(row) for row in rows], schema=SCHEMAS[kind])


_QUESTION_FIELDS = tuple(field.name for field in fields(Question))


def question_from(row: Mapping[str, Any]) -> Question:
    """Return the Question in a row of a table with (at least) the QUESTION columns."""
    known = {name: row[name] for name in _QUESTION_FIELDS}
    return Question(**{**known, "choices": tuple(known["choices"])})


def answer_from(row: Mapping[str, Any]) -> Answer:
    """Return the Answer in a row of a table with the ANSWER columns."""
    readings = tuple(
        Reading(**{**r, "order": tuple(r["order"]), "logprobs": tuple(r["logprobs"])}) for r in row["readings"]
    )
    turns = tuple(Turn(**turn) for turn in row["turns"])
    retrieved = tuple(Neighbour(**neighbour) for neighbour in row["retrieved"])
    return Answer(**{**row, "readings": readings, "turns": turns, "retrieved": retrieved})
