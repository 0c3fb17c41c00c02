"""Poison-pill isolation: fail a question that keeps crashing its engine and continue with the rest.

An actor that Ray restarted cannot know what its predecessor had in flight. So from its first death on an actor records
what it asks in the run directory before it asks it; until then the isolation costs nothing.

A block is then tried beside others once more, because the cause may lie outside. If an engine dies with it again, the
answers due in the block are computed one by one with nothing else in flight, and an engine's death then means that the
answer in flight is given up.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from codemmlu.errors import EngineDied
from codemmlu.inference.backlog import PENDING
from codemmlu.inference.worker import AnswerWorker
from codemmlu.run_dir import RunDir

# How often a block may be in flight beside others when an engine dies, as far as that was recorded.
BESIDE_OTHERS = 1
# How many engines in a row may die without an answer between them: any answer, and for an engine that dies with nothing
# else in flight, one of the same spec. An engine that dies at once would be loaded again
# for ever; two questions side by side that crash their engines need four.
REPLACEMENTS = 4

_WHY = "why"  # the file of the last reason

GIVEN_UP = (
    f"the engine died {BESIDE_OTHERS + 1} times or more while answering this, the last time with nothing else under way"
)


@dataclass(frozen=True)
class BlockAttempts:
    """The record of a block.

    Attributes:
        beside_others: How often the block was started with other blocks in flight.
        alone: The number of the block's row that was started last with nothing else in flight, see `_single_rows`.
        fatal: The numbers of the rows that an engine died of then.
    """

    beside_others: int = 0
    alone: int | None = None
    fatal: tuple[int, ...] = ()


def explain(run: RunDir, folder: str, why: str) -> None:
    """Record why an engine of this attempt ends, for the message that is due when all of them did."""
    run.write(f"{folder}/{_WHY}", why.encode())


class CrashIsolation:
    """The blocks of an actor that Ray restarted, with a record of each; created before the actor's engine."""

    def __init__(self, run: RunDir, folder: str, actor: str) -> None:
        """Count the death of the actor's predecessor; too many in a row are an EngineDied.

        Args:
            run: The run directory.
            folder: The folder of the current attempt.
            actor: A name that outlives the actor's death.
        """
        self._run, self._deaths = run, f"{folder}/deaths/{actor}"
        self._folder = folder
        self._count_death(self._deaths, "without one answer")
        self._counting = True
        self._turn, self._idle, self._in_flight = asyncio.Lock(), asyncio.Event(), 0
        self._idle.set()

    def _count_death(self, file: str, what: str) -> None:
        """Count one more death in a file, and refuse to go on after too many in a row."""
        run, why_file = self._run, f"{self._folder}/{_WHY}"
        in_a_row = 1 + (int(run.read(file)) if run.exists(file) else 0)
        if in_a_row > REPLACEMENTS:
            why = run.read(why_file).decode() if run.exists(why_file) else ""
            last = f" (the last that said why, on {why})" if why else ""
            raise EngineDied(f"{in_a_row} engines in a row died {what}{last}; nothing is tried any more")
        run.write(file, str(in_a_row).encode())

    async def answers(self, worker: AnswerWorker, name: str, block: pa.Table) -> AsyncIterator[pa.Table]:
        """Answer a PENDING block as the worker does, with a record of each attempt.

        Args:
            worker: The actor's worker.
            name: The file of the block's record.
            block: The block.

        Yields:
            Tables of answers.
        """
        attempts = await asyncio.to_thread(self._read, name)
        if attempts.beside_others < BESIDE_OTHERS:
            async with self._beside_others():
                await self._record(name, replace(attempts, beside_others=attempts.beside_others + 1))
                async for answers in worker(block):
                    await self._reset_deaths(block)
                    yield answers
            return
        async with self._alone():
            yield await self._one_by_one(worker, name, block, attempts)

    async def _one_by_one(self, worker: AnswerWorker, name: str, block: pa.Table, attempts: BlockAttempts) -> pa.Table:
        fatal = attempts.fatal if attempts.alone is None else (*attempts.fatal, attempts.alone)
        answers, rows = [], list(_single_rows(block))
        if attempts.alone is not None:
            (spec,) = _specs_of(rows[attempts.alone])
            # An answer of another spec says nothing of this one: an adapter that kills engines would have one engine
            # die for each of its questions, as long as the model alone answers between two deaths.
            what = f"without one answer of {spec} between them"
            await asyncio.to_thread(self._count_death, self._deaths_of(spec), what)
        for number, row in enumerate(rows):
            if number in fatal:
                answers.append(await worker.fail_block(row, GIVEN_UP))
                continue
            await self._record(name, BlockAttempts(attempts.beside_others, number, fatal))
            answers += [table async for table in worker(row)]
            await self._reset_deaths(row)
        await self._record(name, BlockAttempts(attempts.beside_others, None, fatal))
        return pa.concat_tables(answers)

    async def _reset_deaths(self, block: pa.Table) -> None:
        """Count deaths from zero again, after a block was answered: this actor's, and those of the block's specs."""
        if self._counting:
            self._counting = False
            await asyncio.to_thread(self._run.remove, self._deaths)
        for spec in _specs_of(block):
            await asyncio.to_thread(self._run.remove, self._deaths_of(spec))

    def _deaths_of(self, spec: str) -> str:
        """Return the file that counts the engines which died in a row while they answered one spec alone."""
        return f"{self._folder}/deaths/of-{spec}"

    @asynccontextmanager
    async def _beside_others(self) -> AsyncIterator[None]:
        async with self._turn:  # Not while a block is alone, or waits to be alone.
            self._in_flight += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._idle.wait()
            yield

    def _read(self, name: str) -> BlockAttempts:
        if not self._run.exists(name):
            return BlockAttempts()
        fields = json.loads(self._run.read(name))
        return BlockAttempts(fields["beside_others"], fields["alone"], tuple(fields["fatal"]))

    async def _record(self, name: str, attempts: BlockAttempts) -> None:
        await asyncio.to_thread(self._run.write, name, json.dumps(asdict(attempts)).encode())


def _specs_of(block: pa.Table) -> set[str]:
    return {str(spec["name"]) for specs in block["asks"].to_pylist() for spec in specs or ()}


def _single_rows(block: pa.Table) -> Iterator[pa.Table]:
    """Return a block for each pair of a question and a spec of a block, in order."""
    for row in block.to_pylist():
        for spec in row["asks"]:
            yield pa.Table.from_pylist([{**row, "asks": [spec]}], schema=PENDING)
