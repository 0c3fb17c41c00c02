"""The worker, of which the actor that Ray Data hosts is made: it answers blocks of questions with one engine, the
library of solved examples, or both.

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
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from codemmlu.engine import watchdog
from codemmlu.engine.protocol import DoesNotFit, Engine, EngineSettings, OpenEngine
from codemmlu.errors import EngineDied, UserError
from codemmlu.inference.methods import CHECKS, METHODS, MethodInput, MethodResult, NotFinite
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import render, render_check
from codemmlu.retrieval.retriever import Retriever
from codemmlu.schema import Answer, Question, Split, question_from, to_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker opens in its actor. open_engine: None in a pool without a model; open_library: None without asks
    that look at examples."""

    open_engine: OpenEngine | None
    settings: EngineSettings | None
    open_library: Callable[[], Retriever] | None = None


@dataclass(frozen=True)
class _Due:
    """One ask of one question, and what it is asked for."""

    ask: InferenceSpec
    case: MethodInput
    split: Split


class _GivenUp(Exception):
    """Why a question is not asked."""


class AnswerWorker:
    """Called with blocks of pending questions; yields one block of Answer rows for each."""

    def __init__(
        self, tools: WorkerSpec, asks: Sequence[InferenceSpec], most_choices: int, at_once: int, mark: str
    ) -> None:
        """at_once: asks under way, however large the blocks are: a later turn does not queue behind all first ones."""
        watchdog.start(f"{mark}-{uuid.uuid4().hex}")
        self._asks = {ask.name: ask for ask in asks}
        self._most_choices = most_choices
        self._room = asyncio.Semaphore(at_once)
        self._checked: asyncio.Task[None] | None = None
        # The library first: it takes seconds, and a mistake in it should not wait for an engine.
        self._library = tools.open_library() if tools.open_library else None
        self._looking = asyncio.Lock()
        self._engine: Engine | None = None
        if tools.open_engine and tools.settings:
            self._engine = tools.open_engine(tools.settings)
            # When the stream ends Ray lets the actor's process exit; multiprocessing's own exit handler, which was
            # registered before this one and so runs after it, would end the engine the hard way.
            atexit.register(self._engine.close)

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """One PENDING block: questions, what they are asked for, and what is still to be asked of each."""
        due = [self._due(row, asked) for row in block.to_pylist() for asked in row["asks"]]
        try:
            await self._check()
            began = time.time(), time.monotonic()
            cases = await self._look_up(due)
            answers = await asyncio.gather(
                *(self._in_turn(one, case, began) for one, case in zip(due, cases, strict=True))
            )
        except EngineDied as died:
            # Ray replaces an actor whose process ends and hands its blocks to the next one. An exception would end the
            # whole job instead.
            log.error("%s; this worker ends so that Ray replaces it", died)
            os.kill(os.getpid(), signal.SIGKILL)
            raise
        yield to_table(answers, Answer)

    async def fail_block(self, block: pa.Table, why: str) -> pa.Table:
        """A PENDING block as failed answers, without asking."""
        began = time.time(), time.monotonic()
        due = [self._due(row, asked) for row in block.to_pylist() for asked in row["asks"]]
        return to_table([await self._answer(one, _GivenUp(why), began) for one in due], Answer)

    def _due(self, row: dict[str, Any], asked: dict[str, Any]) -> "_Due":
        log_prior = None if asked["log_prior"] is None else tuple(asked["log_prior"])
        case = MethodInput(question_from(row), log_prior=log_prior, threshold=asked["threshold"])
        return _Due(self._asks[asked["name"]], case, row["split"])

    async def _look_up(self, due: Sequence["_Due"]) -> list[MethodInput | Exception]:
        """What each ask sees of its question. On a thread: the engine goes on with other blocks meanwhile."""
        cases: list[MethodInput | Exception] = [one.case for one in due]
        for ask in self._asks.values():
            places = [place for place, one in enumerate(due) if one.ask is ask and ask.neighbours]
            if places:
                async with self._looking:
                    found = await asyncio.to_thread(self._cases, ask, [due[place].case for place in places])
                for place, case in zip(places, found, strict=True):
                    cases[place] = case
        return cases

    def _cases(self, ask: InferenceSpec, cases: list[MethodInput]) -> list[MethodInput | Exception]:
        assert self._library is not None
        try:
            near = self._library.retrieve([case.question for case in cases], ask.neighbours)
            if ask.method != "retrieve":
                return [replace(case, neighbours=its) for case, its in zip(cases, near, strict=True)]
            said = self._library.transferred(near)
            return [
                replace(case, neighbours=its, transferred=it) for case, its, it in zip(cases, near, said, strict=True)
            ]
        except Exception as error:  # the wall, here too: whose trouble it is, only asking one by one tells
            if len(cases) == 1:
                return [error]
            return [found for case in cases for found in self._cases(ask, [case])]

    async def _in_turn(self, due: "_Due", case: MethodInput | Exception, looked_up: tuple[float, float]) -> Answer:
        async with self._room:
            return await self._answer(due, case, looked_up)

    async def _answer(self, due: "_Due", case: MethodInput | Exception, looked_up: tuple[float, float]) -> Answer:
        """One question asked one way. What goes wrong with it is its own failed row, and stops no other.

        case: as it was looked up, or why it could not be
        looked_up: Unix and monotonic time when the look-up of its block began, which is a part of its own time
        """
        ask, question = due.ask, due.case.question
        started, clock = looked_up if ask.neighbours else (time.time(), time.monotonic())
        told: MethodResult = {
            "status": "failed",
            "letter": None,
            "readings": (),
            "turns": (),
            "retrieved": (),
            "error": None,
        }
        told |= {"nearest": None, "verbatim": None, "prompt_tokens": 0, "cached_tokens": 0, "generated_tokens": 0}
        try:
            if isinstance(case, Exception):
                raise case
            if case.neighbours:
                told |= {"nearest": case.neighbours.nearest, "verbatim": case.neighbours.verbatim}
            told |= await METHODS[ask.method](self._engine, ask, case)
        except (DoesNotFit, _GivenUp) as error:
            told["error"] = str(error)
        except NotFinite as error:
            one = error.reading
            told |= {"error": str(error), "readings": (one,), "generated_tokens": 1}
            told |= {"prompt_tokens": one.prompt_tokens, "cached_tokens": one.cached_tokens}
        except EngineDied:
            raise
        except Exception as error:  # the wall: a row's trouble ends here, whatever it is
            log.error("%s failed\n%s", question.task_id, _encodable("".join(traceback.format_exception(error))))
            told["error"] = _encodable(f"{type(error).__name__}: {error}")
        return Answer(
            key=ask.key(question),
            task_id=question.task_id,
            split=due.split,
            ask=ask.name,
            started=started,
            seconds=time.monotonic() - clock,
            **told,
        )

    async def _check(self) -> None:
        """Before the first question: the engine proves on a tiny one that it can tell all letters in use apart.

        Raises UserError, which ends the run: no question could be answered.
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
        for template in sorted({ask.template for ask in self._asks.values()}):
            await self._engine.check(render(tiny, template))
        if any(ask.method in CHECKS for ask in self._asks.values()):
            await self._engine.check(render_check(tiny, 0))


def _encodable(text: str) -> str:
    """Without lone surrogates, which neither a log nor a table can hold."""
    return text.encode(errors="replace").decode()
