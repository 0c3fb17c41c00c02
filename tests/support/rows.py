"""Rows for tests: each is whole, and a test says only what it is about."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from codemmlu.engine.lora import Adapter
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import SpecBuilder
from codemmlu.recipe import AskedVoter, DirectVoter
from codemmlu.retrieval.index import RetrievalKey
from codemmlu.schema import Answer, Question, Reading, Verdict, Vote, to_table

ASK = InferenceSpec(pool="m", weights="w", method="direct", template="codemmlu", settings=(("readings", 1),))
DIRECT = DirectVoter(model="m")

QUESTION = Question(
    task_id="t1",
    subject="syntax",
    question="What does `{x!r}` print?",
    choices=("one", "two", "three", "four"),
    answer="B",
    file="quiz.csv",
    line=2,
)


def question(task_id: str = "t1", **fields: Any) -> Question:
    """A question of four choices; its position is the number at the end of its task_id."""
    digits = "".join(c for c in task_id if c.isdigit())
    return replace(QUESTION, task_id=task_id, **{"position": int(digits or 0), **fields})


def reading(logprobs: Sequence[float], order: Sequence[int] | None = None, mass: float = 0.5) -> Reading:
    """A reading of `logprobs` by letter; the choices stand in file order unless `order` says otherwise."""
    shown = tuple(order) if order is not None else tuple(range(len(logprobs)))
    return Reading(shown, tuple(logprobs), mass, prompt_tokens=10, cached_tokens=4)


def answer(of: Question, ask: InferenceSpec = ASK, **fields: Any) -> Answer:
    """An answer that says B, taken in the first second of 1970."""
    readings = fields.get("readings", (reading((-3.0, -0.5, -3.0, -3.0)),))
    plain = Answer(
        key=ask.key(of),
        task_id=of.task_id,
        split="test",
        ask=ask.name,
        status="answered",
        letter="B",
        readings=readings,
        turns=(),
        retrieved=(),
        nearest=None,
        verbatim=None,
        prompt_tokens=10,
        cached_tokens=4,
        generated_tokens=1,
        started=0.0,
        seconds=1.0,
        error=None,
    )
    return replace(plain, **fields)


def failed(of: Question, ask: InferenceSpec = ASK, **fields: Any) -> Answer:
    """An answer that failed before anything was read."""
    return answer(of, ask, **{"status": "failed", "letter": None, "readings": (), "error": "why", **fields})


def vote(
    letter: str | None, probabilities: Sequence[float] = (), voter: str = "v", status: str = "answered", **fields: Any
) -> Vote:
    """A vote on `t1`, of as many choices as probabilities, or four; without a letter it is no answer."""
    plain = Vote(voter, "t1", 1, None, len(probabilities) or 4, None, status, letter, tuple(probabilities))  # type: ignore[arg-type]
    return replace(plain, **fields)


def table(*votes: Vote) -> pa.Table:
    """Votes as voters.parquet has them."""
    return to_table(votes, Vote)


def verdict(letter: str | None, task_id: str = "t1", position: int = 1) -> Verdict:
    """A verdict without probabilities."""
    return Verdict(task_id, position, letter, (), "log_pool")


def spec_of(
    voter: AskedVoter, weights: str, key: RetrievalKey | None = None, adapter: Adapter | None = None
) -> InferenceSpec:
    """Return the spec of a voter of a model with these weights."""
    return SpecBuilder(weights, key, adapter).build(voter)
