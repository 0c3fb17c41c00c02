"""The worker of a Ray Data actor: answers blocks of questions with an engine, a retriever, or both.

Every question of every block in flight is a coroutine of its own, so the engine's batch is kept full across blocks and
never waits for the slowest question of a block.
"""

import asyncio
import atexit
import logging
import os
import signal
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from codemmlu.engine import watchdog
from codemmlu.engine.protocol import DoesNotFit, Engine, EngineSettings, OpenEngine
from codemmlu.errors import EngineDied, UserError, redact_credentials
from codemmlu.inference.methods import METHODS, MethodInput, MethodResult, NotFinite
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import render, render_check
from codemmlu.retrieval.retriever import Retriever
from codemmlu.schema import Answer, Question, Split, question_from, to_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker opens in its actor.

    Attributes:
        open_engine: Opens the engine; None in a pool without a model.
        settings: What the engine is opened with.
        open_retriever: Opens the retriever; None without specs that look at examples.
    """

    open_engine: OpenEngine | None
    settings: EngineSettings | None
    open_retriever: Callable[[], Retriever] | None = None


@dataclass(frozen=True)
class _Request:
    """An answer that is due: a question, the spec to answer it with, and the purpose."""

    spec: InferenceSpec
    inputs: MethodInput
    split: Split


class _GivenUp(Exception):
    """The reason why a question is not asked."""


class AnswerWorker:
    """A callable that takes a block of pending questions and yields a block of Answer rows."""

    def __init__(
        self, worker_spec: WorkerSpec, specs: Sequence[InferenceSpec], most_choices: int, at_once: int, mark: str
    ) -> None:
        """Open the retriever and the engine.

        Args:
            worker_spec: What to open.
            specs: The specs to answer with.
            most_choices: The most choices of any question.
            at_once: The most answers in flight, however large the blocks are, so that the second turn of a conversation
                does not queue behind the first turns of all.
            mark: A prefix of the name under which the watchdog knows this worker's processes.
        """
        watchdog.start(f"{mark}-{uuid.uuid4().hex}")
        self._specs = {spec.name: spec for spec in specs}
        self._most_choices = most_choices
        self._room = asyncio.Semaphore(at_once)
        self._checked: asyncio.Task[None] | None = None
        # The retriever comes first: it opens in seconds, and a mistake in it should not wait for an engine.
        self._retriever = worker_spec.open_retriever() if worker_spec.open_retriever else None
        self._retrieving = asyncio.Lock()
        self._engine: Engine | None = None
        if worker_spec.open_engine and worker_spec.settings:
            self._engine = worker_spec.open_engine(worker_spec.settings)
            # When the stream ends Ray lets the actor's process exit; multiprocessing's own exit handler, which was
            # registered before this one and so runs after it, would end the engine the hard way.
            atexit.register(self._engine.close)

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """Answer one PENDING block: questions, their purposes, and the specs that are still due for each.

        Args:
            block: The block.

        Yields:
            One table of answers.

        Raises:
            EngineDied: The engine died; seen only where the process outlives the signal that ends it.
        """
        requests = self._requests(block)
        try:
            await self._check()
            began = time.time(), time.monotonic()
            looked_up = await self._look_up(requests)
            answers = await asyncio.gather(
                *(self._in_turn(request, inputs, began) for request, inputs in zip(requests, looked_up, strict=True))
            )
        except EngineDied as died:
            # Ray replaces an actor whose process ends and hands its blocks to the next one. An exception would end the
            # whole job instead.
            log.error("%s; this worker ends so that Ray replaces it", died)
            os.kill(os.getpid(), signal.SIGKILL)
            raise
        yield to_table(answers, Answer)

    async def fail_block(self, block: pa.Table, why: str) -> pa.Table:
        """Return failed answers for a PENDING block, without asking an engine."""
        began = time.time(), time.monotonic()
        answers = [await self._answer(request, _GivenUp(why), began) for request in self._requests(block)]
        return to_table(answers, Answer)

    def _requests(self, block: pa.Table) -> list[_Request]:
        return [self._request(row, pending) for row in block.to_pylist() for pending in row["asks"]]

    def _request(self, row: dict[str, Any], pending: dict[str, Any]) -> _Request:
        log_prior = None if pending["log_prior"] is None else tuple(pending["log_prior"])
        inputs = MethodInput(question_from(row), log_prior=log_prior, threshold=pending["threshold"])
        return _Request(self._specs[pending["name"]], inputs, row["split"])

    async def _look_up(self, requests: Sequence[_Request]) -> list[MethodInput | Exception]:
        """Return the inputs of each request with the neighbours that its spec looks at."""
        looked_up: list[MethodInput | Exception] = [request.inputs for request in requests]
        for spec in self._specs.values():
            rows = [row for row, request in enumerate(requests) if request.spec is spec and spec.neighbours]
            if rows:
                async with self._retrieving:  # It runs on a thread: the engine goes on with other blocks meanwhile.
                    retrieved = await asyncio.to_thread(self._retrieve, spec, [requests[row].inputs for row in rows])
                for row, inputs in zip(rows, retrieved, strict=True):
                    looked_up[row] = inputs
        return looked_up

    def _retrieve(self, spec: InferenceSpec, plain: list[MethodInput]) -> list[MethodInput | Exception]:
        assert self._retriever is not None
        try:
            neighbours = self._retriever.retrieve([inputs.question for inputs in plain], spec.neighbours)
            if not METHODS[spec.method].transfers:
                return [replace(inputs, neighbours=near) for inputs, near in zip(plain, neighbours, strict=True)]
            predicted = self._retriever.transferred(neighbours)
            return [
                replace(inputs, neighbours=near, transferred=logs)
                for inputs, near, logs in zip(plain, neighbours, predicted, strict=True)
            ]
        except (
            Exception
        ) as error:  # The same boundary as in `_answer`; retrieving one by one finds the question at fault.
            if len(plain) == 1:
                return [error]
            return [result for inputs in plain for result in self._retrieve(spec, [inputs])]

    async def _in_turn(
        self, request: _Request, inputs: MethodInput | Exception, looked_up: tuple[float, float]
    ) -> Answer:
        async with self._room:
            return await self._answer(request, inputs, looked_up)

    async def _answer(
        self, request: _Request, inputs: MethodInput | Exception, looked_up: tuple[float, float]
    ) -> Answer:
        """Answer one request; an error becomes a failed row of this request and stops no other.

        Args:
            request: The request.
            inputs: The request's inputs after the look-up, or the error of the look-up.
            looked_up: Unix and monotonic time when the look-up of the block began, which is part of the answer's time.

        Returns:
            The answer.
        """
        spec, question = request.spec, request.inputs.question
        started, clock = looked_up if spec.neighbours else (time.time(), time.monotonic())
        neighbours = None if isinstance(inputs, Exception) else inputs.neighbours
        result, error = await self._run(spec, question, inputs)
        return Answer(
            key=spec.key(question),
            task_id=question.task_id,
            split=request.split,
            ask=spec.name,
            status=result.status,
            letter=result.letter,
            readings=result.readings,
            turns=result.turns,
            retrieved=result.retrieved,
            nearest=neighbours.nearest if neighbours else None,
            verbatim=neighbours.verbatim if neighbours else None,
            prompt_tokens=result.prompt_tokens,
            cached_tokens=result.cached_tokens,
            generated_tokens=result.generated_tokens,
            started=started,
            seconds=time.monotonic() - clock,
            error=error,
        )

    async def _run(
        self, spec: InferenceSpec, question: Question, inputs: MethodInput | Exception
    ) -> tuple[MethodResult, str | None]:
        """Return the result of the method, and why it failed where it failed."""
        failed = MethodResult("failed")
        try:
            if isinstance(inputs, Exception):
                raise inputs
            return await METHODS[spec.method].run(self._engine, spec, inputs), None
        except (DoesNotFit, _GivenUp) as error:
            return failed, redact_credentials(str(error))
        except NotFinite as error:
            reading = error.reading
            tokens = (reading.prompt_tokens, reading.cached_tokens, 1)
            return MethodResult("failed", None, (reading,), (), (), *tokens), redact_credentials(str(error))
        except EngineDied:
            raise
        except Exception as error:  # This is a boundary: the trouble of one row ends here, whatever it is.
            log.error("%s failed\n%s", question.task_id, _encodable("".join(traceback.format_exception(error))))
            return failed, _encodable(f"{type(error).__name__}: {error}")

    async def _check(self) -> None:
        """Make the engine prove once, on a tiny question, that it can tell all letters in use apart.

        Raises:
            EngineDied: The engine died.
            UserError: No question could be answered, which ends the run.
        """
        if self._engine is None:
            return
        if self._checked is None:
            self._checked = asyncio.ensure_future(self._check_templates())
        try:
            await self._checked
        except (EngineDied, UserError):
            raise
        except Exception as error:
            raise UserError(f"not even a tiny question can be asked: {_encodable(repr(error))}") from error

    async def _check_templates(self) -> None:
        assert self._engine is not None
        tiny = Question("check", None, "Which one?", ("this",) * self._most_choices, None, "", 0)
        for template in sorted({spec.template for spec in self._specs.values()}):
            await self._engine.check(render(tiny, template))
        if any(METHODS[spec.method].checks for spec in self._specs.values()):
            await self._engine.check(render_check(tiny, 0))
        for adapter, template in sorted(
            {(spec.adapter, spec.template) for spec in self._specs.values() if spec.adapter}
        ):
            await self._engine.check_adapter(render(tiny, template), adapter)


def _encodable(text: str) -> str:
    """Replace lone surrogates, which neither a log nor a table can hold."""
    return text.encode(errors="replace").decode()
