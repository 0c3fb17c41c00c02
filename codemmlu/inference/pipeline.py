"""The Ray Data pipeline of one pool: the places of pending blocks go in, the counts of durable answers come out.

The plan streams: a block is durable as soon as it is answered, the driver holds only counts, and the order of blocks
means nothing. `rows in == rows out` is asserted at the end.

Reading, answering and keeping a block are one step, in one process: beside an engine on the CPU even a process that
waits takes some of its cores (an idle Ray worker was measured at 0.7 % of one).
"""

import asyncio
import contextlib
import hashlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
import ray.exceptions

from codemmlu.cluster import locks, tasks
from codemmlu.engine import watchdog
from codemmlu.engine.placement.placement import Placement
from codemmlu.errors import Progress, ProgressLine, UserError
from codemmlu.inference import crash_isolation
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.worker import AnswerWorker, WorkerSpec
from codemmlu.run_dir import ISSUE, RunDir

_NOTHING = pa.table({"answers": [0], "failed": [0]})


@dataclass(frozen=True)
class PoolSpec:
    """What every actor of a pool is made from: what it opens, what it asks, the most choices it meets, and how many
    asks it has under way at once."""

    tools: WorkerSpec
    asks: tuple[InferenceSpec, ...]
    most_choices: int
    at_once: int


@dataclass(frozen=True)
class StageBlocks:
    """Blocks of pending questions that are asked once all before them are durable.

    folder: where they are; most: at most so many; due: the asks that are known of before they are written
    fill: writes them, when their time has come, and gives back how many they are and how many asks they hold
    """

    folder: str
    most: int
    due: int
    fill: Callable[[], tuple[int, int]]

    @property
    def issue(self) -> str:
        """The folder of all waves of this issue."""
        return self.folder.rpartition("/")[0]

    @property
    def ready(self) -> str:
        """The file that says how many blocks there are, written after them."""
        return f"{self.folder}/ready"

    def write(self, run: RunDir) -> int:
        """Its blocks become readable, one after another; gives back its asks."""
        blocks, asks = self.fill()
        run.write(self.ready, str(blocks).encode())
        return asks


def run_pipeline(
    progress: Progress,
    run: RunDir,
    pool: str,
    waves: Sequence[StageBlocks],
    worker: PoolSpec,
    placement: Placement,
    per_block: int,
) -> None:
    """Asks what is due, one start of the engines for all waves; per_block: questions in a block.

    The engines start, and answer, while the first wave's later blocks are still being written.

    Raises UserError, EngineDied when engines keep dying, KeyboardInterrupt.
    """
    mark = uuid.uuid4().hex
    written: Future[int] = Future()

    def write() -> None:
        written.set_result(waves[0].write(run))

    def follow() -> None:
        try:
            kept = _plan(run, pool, waves, max(2, placement.in_flight // per_block), worker, placement, mark)
            with progress.progress(pool, waves[0].due) as line:
                due, durable = _follow(run, kept, waves, written, line)
        except ray.exceptions.RayError as error:
            raise tasks.reason(error) from error
        if durable != due:
            raise RuntimeError(f"{pool}: {due} asks went in and {durable} answers came out")

    tasks.together([write, follow])
    watchdog.wait_until_closed(mark)


def _follow(
    run: RunDir, kept: ray.data.Dataset, waves: Sequence[StageBlocks], written: Future[int], line: ProgressLine
) -> tuple[int, int]:
    """Counts answers as they become durable, and begins each wave when the one before has ended.

    written: the asks of the first wave, once it is. Gives back how many asks there were, and how many answers.
    """
    later = list(waves[1:])
    due = durable = 0
    open_blocks = waves[0].most
    for block in kept.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for counts in block.to_pylist():
            durable += counts["answers"]
            open_blocks -= 1
            line.advance(counts["answers"], counts["failed"])
        while not open_blocks and later:
            wave = later.pop(0)
            more = wave.write(run)
            due += more
            open_blocks = wave.most
            line.extend(more - wave.due)
    return due + written.result(), durable


def _plan(
    run: RunDir,
    pool: str,
    waves: Sequence[StageBlocks],
    in_flight: int,
    worker: PoolSpec,
    placement: Placement,
    mark: str,
) -> ray.data.Dataset:
    """The visible list of steps: places of blocks -> read, answer, keep -> counts of what is durable."""
    tasks.quiet()
    places = [{"folder": wave.folder, "block": block} for wave in waves for block in range(wave.most)]
    # Ray Data starts an actor that died again, and hands it what it had under way, without end: see suspects.py.
    return ray.data.from_items(places, override_num_blocks=len(places)).map_batches(
        BlockWorker,
        fn_constructor_args=(worker, run.address, waves[0].issue, f"answers/{pool}", run.read(ISSUE), mark),
        batch_size=1,  # a place is a block of its own; with GPUs Ray Data does not take None
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=placement.replicas,
            max_size=placement.at_most,
            max_tasks_in_flight_per_actor=in_flight,
            max_concurrent_calls_per_actor=in_flight,
        ),
        num_cpus=0,  # an engine's own processes take the cores
        num_gpus=placement.actor_gpus,
        # A byte. What asks for nothing Ray puts anywhere: two engines on one node, none on the next. Where GPUs are
        # asked for it is too much: a node that has not started yet may not be known to have memory.
        **({} if placement.gpus_each else {"memory": 1}),
        **({"accelerator_type": placement.label} if placement.label else {}),
    )


class BlockWorker:
    """The actor of a pool: reads a pending block, has it answered, and keeps the answers in a file of their own.

    The file's name follows from its keys, so a block that Ray runs twice is written once. A block of a job that was
    killed and re-issued meanwhile is dropped: the new job asks its questions itself.
    """

    PAUSE = 5.0  # seconds before an engine that could not start is replaced
    POLL = 0.25  # seconds between two looks whether a block is there

    def __init__(self, worker: PoolSpec, address: str, waves: str, folder: str, issue: bytes, mark: str) -> None:
        """waves: the folder that they are in; folder: where answers go."""
        self._run, self._folder, self._issue, self._waves = RunDir(address), folder, issue, waves
        if not self._run.exists(ISSUE):  # a node that came after the others were asked
            raise locks.unshared(self._run, ray.util.get_node_ip_address())
        this = ray.get_runtime_context()
        again = this.was_current_actor_reconstructed
        self._suspects = crash_isolation.CrashIsolation(self._run, waves, this.get_actor_id()) if again else None
        self._said = False
        try:
            self._answer = AnswerWorker(worker.tools, worker.asks, worker.most_choices, worker.at_once, mark)
        except UserError as error:
            if not self._run.exists(self._works):
                raise
            # Others of this issue started: no mistake of the person's, but this node's trouble. It may pass.
            crash_isolation.explain(self._run, waves, f"{ray.util.get_node_ip_address()}: {error}")
            time.sleep(self.PAUSE)
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def _works(self) -> str:
        """The file that says that an engine of this issue has answered."""
        return f"{self._waves}/works"

    async def __call__(self, places: pa.Table) -> AsyncIterator[pa.Table]:
        """The place of a block in, one row of counts out. Files are waited for beside the engine, not before it."""
        for place in places.to_pylist():
            block = await self._block(place["folder"], place["block"])
            if block is None:
                yield _NOTHING
                continue
            async for answers in self._answers(place, block):
                kept = await asyncio.to_thread(self._keep, answers)
                if not self._said:
                    self._said = True
                    with contextlib.suppress(UserError):  # it is a hint; storage that is gone shows with the answers
                        await asyncio.to_thread(self._run.write, self._works, b"")
                yield kept

    def _answers(self, place: dict[str, Any], block: pa.Table) -> AsyncIterator[pa.Table]:
        if self._suspects is None:
            return self._answer(block)
        return self._suspects.answers(self._answer, f"{place['folder']}/tried/{place['block']:06d}", block)

    async def _block(self, folder: str, number: int) -> pa.Table | None:
        """A pending block, once it is there; None where its wave has fewer blocks, or the job is not alive."""
        name = f"{folder}/{number:06d}.parquet"
        while not await asyncio.to_thread(self._run.exists, name):
            if await asyncio.to_thread(self._run.exists, f"{folder}/ready"):
                if number >= int(await asyncio.to_thread(self._run.read, f"{folder}/ready")):
                    return None
                continue  # it was written between the two looks
            if await asyncio.to_thread(self._run.read, ISSUE) != self._issue:
                return None
            await asyncio.sleep(self.POLL)
        return await asyncio.to_thread(self._run.read_table, name)

    def _keep(self, answers: pa.Table) -> pa.Table:
        if self._run.read(ISSUE) != self._issue:
            return _NOTHING
        keys = "".join(sorted(str(key) for key in answers["key"].to_pylist()))
        name = hashlib.sha256(keys.encode()).hexdigest()[:24]
        self._run.write_table(f"{self._folder}/{name}.parquet", answers)
        failed = sum(status == "failed" for status in answers["status"].to_pylist())
        return pa.table({"answers": [answers.num_rows], "failed": [failed]})
