"""The worker, of which the actor that Ray Data hosts is made: it opens one engine and answers blocks of questions.

Every question of every block in flight is a coroutine of its own, so the engine's batch is kept full across blocks and
never waits for the slowest question of one.
"""

import asyncio
import atexit
import logging
import os
import signal
import time
import traceback
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pyarrow as pa

from codemmlu.answering.asks import Ask
from codemmlu.answering.direct import direct
from codemmlu.engine import watchdog
from codemmlu.engine.protocol import DoesNotFit, Engine, EngineSettings, OpenEngine
from codemmlu.errors import EngineDied, UserError
from codemmlu.prompts import render
from codemmlu.rows import Answer, Question, question_from, to_table

log = logging.getLogger(__name__)


class AnswerWorker:
    """Called with blocks of pending questions; yields one block of Answer rows for each."""

    def __init__(
        self,
        open_engine: OpenEngine,
        settings: EngineSettings,
        asks: Sequence[Ask],
        most_choices: int,
        split: str,
        mark: str,
    ) -> None:
        watchdog.start(f"{mark}-{uuid.uuid4().hex}")
        self._asks = {ask.name: ask for ask in asks}
        self._most_choices = most_choices
        self._split = split
        self._checked: asyncio.Task[None] | None = None
        self._engine: Engine = open_engine(settings)
        # When the stream ends Ray lets the actor's process exit; multiprocessing's own exit handler, which was
        # registered before this one and so runs after it, would end the engine the hard way.
        atexit.register(self._engine.close)

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """One pending block: QUESTION columns and `asks`, the names of what is still to be asked of each."""
        due = [(self._asks[name], question_from(row)) for row in block.to_pylist() for name in row["asks"]]
        try:
            await self._check()
            answers = await asyncio.gather(*(self._answer(ask, question) for ask, question in due))
        except EngineDied as died:
            # Ray replaces an actor whose process ends and hands its blocks to the next one. An exception would end the
            # whole job instead.
            log.error("%s; this worker ends so that Ray replaces it", died)
            os.kill(os.getpid(), signal.SIGKILL)
            raise
        yield to_table(answers, Answer)

    async def _answer(self, ask: Ask, question: Question) -> Answer:
        """One question asked one way. What goes wrong with it is its own failed row, and stops no other."""
        started, clock = time.time(), time.monotonic()
        told: dict[str, Any] = {"status": "failed", "letter": None, "readings": (), "error": None}
        try:
            told |= await direct(self._engine, ask, question)
        except DoesNotFit as error:
            told["error"] = str(error)
        except EngineDied:
            raise
        except Exception as error:  # the wall: a row's trouble ends here, whatever it is
            log.error("%s failed\n%s", question.task_id, _encodable("".join(traceback.format_exception(error))))
            told["error"] = _encodable(f"{type(error).__name__}: {error}")
        readings = told["readings"]
        return Answer(
            key=ask.key(question),
            task_id=question.task_id,
            split=self._split,
            ask=ask.name,
            turns=(),
            prompt_tokens=sum(reading.prompt_tokens for reading in readings),
            cached_tokens=sum(reading.cached_tokens for reading in readings),
            generated_tokens=len(readings),
            started=started,
            seconds=time.monotonic() - clock,
            **told,
        )

    async def _check(self) -> None:
        """Before the first question: the engine proves on a tiny one that it can tell all letters in use apart.

        Raises UserError, which ends the run: no question could be answered.
        """
        if self._checked is None:
            self._checked = asyncio.ensure_future(self._check_templates())
        try:
            await self._checked
        except (EngineDied, UserError):
            raise
        except Exception as error:
            raise UserError(f"not even a tiny question can be asked: {_encodable(repr(error))}") from error

    async def _check_templates(self) -> None:
        tiny = Question("check", None, "Which one?", ("this",) * self._most_choices, None, "", 0)
        for template in sorted({ask.template for ask in self._asks.values()}):
            await self._engine.check(render(tiny, template))


def _encodable(text: str) -> str:
    """Without lone surrogates, which neither a log nor a table can hold."""
    return text.encode(errors="replace").decode()
