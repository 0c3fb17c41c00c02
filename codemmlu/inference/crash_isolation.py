"""What engines die of: a question that kills its engine each time becomes a failed answer, and all others go on.

An actor that Ray started again cannot know what its predecessor was asking. So from its first death on an actor writes
down what it asks, before it asks it, in the run directory; until then nothing of this costs anything.

A block is asked beside others once more after that, as the cause may lie outside. If an engine dies with it again, what
it holds is asked one by one with nothing else under way, and what an engine dies of then is given up.
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

# How often a block may be under way beside others when an engine dies, as far as that was written down.
BESIDE_OTHERS = 1
# How many engines in a row may die without one answer between. One that dies at once would go on loading for ever; two
# questions side by side that kill their engines need four.
REPLACEMENTS = 4

_WHY = "why"  # the file of the last reason

GIVEN_UP = (
    f"the engine died {BESIDE_OTHERS + 1} times or more while answering this, the last time with nothing else under way"
)


@dataclass(frozen=True)
class BlockAttempts:
    """What is written down of a block.

    beside_others: how often it was begun with other blocks under way
    alone: which of its asks was begun last with nothing else under way
    fatal: the asks that an engine died of then
    """

    beside_others: int = 0
    alone: int | None = None
    fatal: tuple[int, ...] = ()


def explain(run: RunDir, folder: str, why: str) -> None:
    """Writes down why an engine of this issue ends, for whoever has to be told that all of them did."""
    run.write(f"{folder}/{_WHY}", why.encode())


class CrashIsolation:
    """Asks the blocks of one actor that Ray started again; to be made before its engine."""

    def __init__(self, run: RunDir, folder: str, actor: str) -> None:
        """folder: of the run's present issue; actor: a name that outlives its death. Raises EngineDied."""
        self._run, self._deaths = run, f"{folder}/deaths/{actor}"
        in_a_row = 1 + (int(run.read(self._deaths)) if run.exists(self._deaths) else 0)
        if in_a_row > REPLACEMENTS:
            why = run.read(f"{folder}/{_WHY}").decode() if run.exists(f"{folder}/{_WHY}") else ""
            last = f" (the last that said why, on {why})" if why else ""
            raise EngineDied(f"{in_a_row} engines in a row died without one answer{last}; nothing is tried any more")
        run.write(self._deaths, str(in_a_row).encode())
        self._counting = True
        self._turn, self._idle, self._under_way = asyncio.Lock(), asyncio.Event(), 0
        self._idle.set()

    async def answers(self, worker: AnswerWorker, name: str, block: pa.Table) -> AsyncIterator[pa.Table]:
        """As the worker answers this PENDING block; name: of the file that it is written down in."""
        tried = await asyncio.to_thread(self._read, name)
        if tried.beside_others < BESIDE_OTHERS:
            async with self._beside_others():
                await self._note(name, replace(tried, beside_others=tried.beside_others + 1))
                async for answers in worker(block):
                    await self._lives()
                    yield answers
            return
        async with self._alone():
            yield await self._one_by_one(worker, name, block, tried)

    async def _one_by_one(self, worker: AnswerWorker, name: str, block: pa.Table, tried: BlockAttempts) -> pa.Table:
        fatal = tried.fatal if tried.alone is None else (*tried.fatal, tried.alone)
        answers = []
        for number, one in enumerate(_asks(block)):
            if number in fatal:
                answers.append(await worker.fail_block(one, GIVEN_UP))
                continue
            await self._note(name, BlockAttempts(tried.beside_others, number, fatal))
            answers += [table async for table in worker(one)]
            await self._lives()
        await self._note(name, BlockAttempts(tried.beside_others, None, fatal))
        return pa.concat_tables(answers)

    async def _lives(self) -> None:
        """An answer came: deaths are counted from nought."""
        if self._counting:
            self._counting = False
            await asyncio.to_thread(self._run.remove, self._deaths)

    @asynccontextmanager
    async def _beside_others(self) -> AsyncIterator[None]:
        async with self._turn:  # not while something is alone, or waits to be
            self._under_way += 1
            self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._idle.wait()
            yield

    def _read(self, name: str) -> BlockAttempts:
        if not self._run.exists(name):
            return BlockAttempts()
        told = json.loads(self._run.read(name))
        return BlockAttempts(told["beside_others"], told["alone"], tuple(told["fatal"]))

    async def _note(self, name: str, tried: BlockAttempts) -> None:
        await asyncio.to_thread(self._run.write, name, json.dumps(asdict(tried)).encode())


def _asks(block: pa.Table) -> Iterator[pa.Table]:
    """A block for each single ask of a block, in its order."""
    for row in block.to_pylist():
        for asked in row["asks"]:
            yield pa.Table.from_pylist([{**row, "asks": [asked]}], schema=PENDING)
