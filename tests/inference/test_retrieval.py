"""The worker with a library: what an answer keeps of its examples, and that one question's trouble stops no other."""

import asyncio
import time
from collections.abc import Sequence

import pyarrow as pa
import pytest

from codemmlu.engine import watchdog
from codemmlu.engine.protocol import EngineSettings
from codemmlu.engine.scripted import Script
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.worker import AnswerWorker, WorkerSpec
from codemmlu.retrieval.embedder import Vectors
from codemmlu.retrieval.retriever import Retriever
from codemmlu.schema import Answer, Question, answer_from
from tests.inference.test_worker import asking
from tests.support.embedders import BROKEN, BreakableEncoder
from tests.support.engines import SETTINGS, RecordingEngine
from tests.support.example_indexes import library, solved
from tests.support.rows import ASK, question

PETS = [
    solved("e1", "pick a pet that barks", ("a dog", "a cat"), "A"),
    solved("e2", "pick a pet that purrs", ("a dog", "a cat"), "B"),
    solved("e3", "name a planet", ("mars", "milk"), "A"),
]
SHOWN = InferenceSpec(
    "m", "w", "direct", "codemmlu", (("readings", 1),), examples=2, neighbours=4, tokens=2000, index="i"
)
ALONE = InferenceSpec("retrieve", "", "retrieve", neighbours=4, index="i")


@pytest.fixture(autouse=True)
def _unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watchdog would stay until pytest ends."""
    monkeypatch.setattr(watchdog, "start", lambda mark: None)


def answers(worker: AnswerWorker, *blocks: pa.Table) -> list[Answer]:
    """The rows of all blocks, which are in flight together."""

    async def one(block: pa.Table) -> list[pa.Table]:
        return [table async for table in worker(block)]

    async def together() -> list[list[pa.Table]]:
        return await asyncio.gather(*map(one, blocks))

    return [answer_from(row) for tables in asyncio.run(together()) for table in tables for row in table.to_pylist()]


def without_engine(index: Retriever) -> AnswerWorker:
    return AnswerWorker(WorkerSpec(None, None, lambda: index), (ALONE,), 4, 256, "run")


def with_engine(index: Retriever, *asks: InferenceSpec) -> tuple[AnswerWorker, RecordingEngine]:
    engine = RecordingEngine(Script())

    def opens(settings: EngineSettings) -> RecordingEngine:
        return engine

    return AnswerWorker(WorkerSpec(opens, SETTINGS, lambda: index), asks, 4, 256, "run"), engine


def pet(task_id: str, text: str = "pick a pet that barks", **fields: object) -> Question:
    return question(task_id, question=text, choices=("one cat", "one dog"), **fields)


def test_an_answer_keeps_the_examples_it_was_shown() -> None:
    worker, engine = with_engine(library(PETS), SHOWN)
    (row,) = answers(worker, asking(pet("q1"), asks=[SHOWN]))
    assert (row.status, row.error, row.generated_tokens) == ("answered", None, 1)
    assert [one.task_id for one in row.retrieved] == ["e1", "e2"]
    assert row.retrieved[0].similarity == pytest.approx(1, abs=1e-3)
    assert 0.5 < row.retrieved[1].similarity < 0.95
    assert row.nearest == pytest.approx(1, abs=1e-3)
    assert row.verbatim is True
    (prompt,) = engine.scored
    assert [m.content for m in prompt.messages if m.role == "assistant"] == ["Answer: B", "Answer: A"], "best last"
    assert "purrs" in prompt.messages[0].content
    assert "barks" in prompt.messages[2].content


def test_a_question_is_never_shown_itself() -> None:
    worker, engine = with_engine(library(PETS), SHOWN)
    (row,) = answers(worker, asking(pet("e1"), asks=[SHOWN]))
    assert [one.task_id for one in row.retrieved] == ["e2", "e3"]
    assert row.verbatim is False
    assert all("barks" not in message.content for message in engine.scored[0].messages[:-1])


def test_one_worker_asks_with_and_without_examples() -> None:
    worker, engine = with_engine(library(PETS), ASK, SHOWN)
    plain, shown = answers(worker, asking(pet("q1"), asks=[ASK, SHOWN]))
    assert (plain.ask, plain.retrieved, plain.nearest, plain.verbatim) == (ASK.name, (), None, None)
    assert (shown.ask, len(shown.retrieved)) == (SHOWN.name, 2)
    assert [len(prompt.messages) for prompt in engine.scored] == [1, 5]


def test_retrieval_answers_without_an_engine() -> None:
    dog, cat = answers(
        without_engine(library(PETS)), asking(pet("q1"), pet("q2", "pick a pet that purrs"), asks=[ALONE])
    )
    assert [(row.status, row.letter) for row in (dog, cat)] == [("answered", "B"), ("answered", "A")]
    assert [one.task_id for one in dog.retrieved] == ["e1", "e2", "e3"], "all it looked at"
    (said,) = dog.readings
    assert (said.order, said.mass, said.prompt_tokens) == ((0, 1), 1.0, 0)
    assert said.logprobs[1] > said.logprobs[0]
    assert (dog.prompt_tokens, dog.cached_tokens, dog.generated_tokens) == (0, 0, 0)
    assert dog.key == ALONE.key(pet("q1"))


def test_an_index_that_has_nothing_for_a_question_says_so() -> None:
    (row,) = answers(without_engine(library(PETS[:1], exclude="same")), asking(pet("q1"), asks=[ALONE]))
    assert (row.status, row.retrieved, row.verbatim) == ("answered", (), True)
    (row,) = answers(without_engine(library(PETS[:1])), asking(pet("e1"), asks=[ALONE]))
    assert (row.status, row.retrieved, row.nearest, row.verbatim) == ("answered", (), None, False)


@pytest.mark.parametrize("fields", [{"text": f"a {BROKEN} text"}, {"choices": ("fine", BROKEN)}])
def test_a_vector_that_is_not_finite_fails_its_question_alone(fields: dict[str, object]) -> None:
    asked = [pet(f"q{n}") for n in range(5)]
    asked[2] = question("q2", **{"question": fields.pop("text", "pick a pet"), **fields})
    rows = answers(without_engine(library(PETS)), asking(*asked, asks=[ALONE]), asking(pet("q9"), asks=[ALONE]))
    assert [(row.task_id, row.status) for row in rows] == [
        *(("q0", "answered"), ("q1", "answered"), ("q2", "failed"), ("q3", "answered"), ("q4", "answered")),
        ("q9", "answered"),
    ]
    failed = rows[2]
    assert failed.error is not None
    assert "the embedder gave a vector that is not finite for" in failed.error
    assert (failed.letter, failed.readings, failed.retrieved, failed.nearest) == (None, (), (), None)
    assert failed.key == ALONE.key(asked[2])


def test_without_a_vector_only_the_ask_with_examples_fails() -> None:
    worker, engine = with_engine(library(PETS), ASK, SHOWN)
    rows = answers(worker, asking(pet("q1", BROKEN), pet("q2"), asks=[ASK, SHOWN]))
    assert [row.status for row in rows] == ["answered", "failed", "answered", "answered"]
    assert len(engine.scored) == 3


class OneAtATime(BreakableEncoder):
    """Counts the calls that were under way at once."""

    under_way = most = 0

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder."""
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        time.sleep(0.01)
        self.under_way -= 1
        return super().encode(texts)


def test_many_blocks_at_once_look_up_their_own() -> None:
    """The library takes one call at a time: blocks in flight wait for each other, and get what is theirs."""
    encoder = OneAtATime()
    blocks = [asking(*(pet(f"q{10 * b + n}") for n in range(6)), asks=[ALONE]) for b in range(4)]
    rows = answers(without_engine(library(PETS, asks_with=encoder)), *blocks)
    assert encoder.most == 1
    assert [row.task_id for row in rows] == [f"q{10 * b + n}" for b in range(4) for n in range(6)]
    assert {(row.letter, row.retrieved[0].task_id) for row in rows} == {("B", "e1")}
