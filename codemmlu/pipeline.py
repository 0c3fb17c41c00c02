"""The Ray Data pipeline of one pool: the names of pending blocks go in, the counts of durable answers come out.

The plan streams: a block is durable as soon as it is answered, the driver holds only counts, and the order of blocks
means nothing. `rows in == rows out` is asserted at the end.

Reading, answering and keeping a block are one step, in one process: beside an engine on the CPU even a process that
waits takes some of its cores (an idle Ray worker was measured at 0.7 % of one).
"""

import asyncio
import hashlib
import uuid
import warnings
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import ray.data
import ray.exceptions

from codemmlu import cluster
from codemmlu.answering.asks import Ask
from codemmlu.answering.worker import AnswerWorker, Tools
from codemmlu.engine import watchdog
from codemmlu.engine.placement import Placement
from codemmlu.report.terminal import Terminal
from codemmlu.run_dir import ISSUE, RunDir

# How often an actor that died is replaced before the run stops: an engine that dies at once each time would go on
# loading for ever.
REPLACEMENTS = 3


@dataclass(frozen=True)
class Worker:
    """What every actor of a pool is made from: what it opens, what it asks, and the most choices it meets."""

    tools: Tools
    asks: tuple[Ask, ...]
    most_choices: int


def ask_all(
    terminal: Terminal, run: RunDir, pool: str, due: int, blocks: Sequence[str], worker: Worker, placement: Placement
) -> None:
    """Asks what is due. Raises UserError, EngineDied when engines keep dying, KeyboardInterrupt."""
    mark = uuid.uuid4().hex
    durable = 0
    try:
        with terminal.progress(pool, due) as progress, cluster.without_actor_warning():
            kept = _plan(run, pool, due, blocks, worker, placement, mark)
            for block in kept.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for counts in block.to_pylist():
                    durable += counts["answers"]
                    progress.advance(counts["answers"], counts["failed"])
    except ray.exceptions.RayError as error:
        raise cluster.reason(error) from error
    watchdog.wait_until_closed(mark)
    if durable != due:
        raise RuntimeError(f"{pool}: {due} asks went in and {durable} answers came out")


def _plan(
    run: RunDir, pool: str, due: int, blocks: Sequence[str], worker: Worker, placement: Placement, mark: str
) -> ray.data.Dataset:
    """The visible list of steps: names of blocks -> read, answer, keep -> counts of what is durable."""
    cluster.quiet()
    in_flight = max(2, placement.in_flight * len(blocks) // due)
    with warnings.catch_warnings():
        # Ray 2.60 has no other way to bound an actor's restarts than arguments that it will drop in 2.64.
        warnings.simplefilter("ignore", ray.data.dataset.RayDeprecationWarning)
        return ray.data.from_items([{"block": name} for name in blocks], override_num_blocks=len(blocks)).map_batches(
            BlockWorker,
            fn_constructor_args=(worker, run.address, f"answers/{pool}", run.read(ISSUE), mark),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=placement.replicas,
                max_tasks_in_flight_per_actor=in_flight,
                max_concurrent_calls_per_actor=in_flight,
            ),
            num_cpus=0,  # an engine's own processes take the cores
            num_gpus=placement.gpus_each,
            max_restarts=REPLACEMENTS,
            max_task_retries=REPLACEMENTS,
        )


class BlockWorker:
    """The actor of a pool: reads a pending block, has it answered, and keeps the answers in a file of their own.

    The file's name follows from its keys, so a block that Ray runs twice is written once. A block of a job that was
    killed and re-issued meanwhile is dropped: the new job asks its questions itself.
    """

    def __init__(self, worker: Worker, address: str, folder: str, issue: bytes, mark: str) -> None:
        self._run, self._folder, self._issue = RunDir(address), folder, issue
        self._answer = AnswerWorker(worker.tools, worker.asks, worker.most_choices, "test", mark)

    async def __call__(self, names: pa.Table) -> AsyncIterator[pa.Table]:
        """The name of a block in, one row of counts out. Files are waited for beside the engine, not before it."""
        for name in names["block"].to_pylist():
            block = await asyncio.to_thread(self._run.read_table, str(name))
            async for answers in self._answer(block):
                yield await asyncio.to_thread(self._keep, answers)

    def _keep(self, answers: pa.Table) -> pa.Table:
        if self._run.read(ISSUE) != self._issue:
            return pa.table({"answers": [0], "failed": [0]})
        keys = "".join(sorted(str(key) for key in answers["key"].to_pylist()))
        name = hashlib.sha256(keys.encode()).hexdigest()[:24]
        self._run.write_table(f"{self._folder}/{name}.parquet", answers)
        failed = sum(status == "failed" for status in answers["status"].to_pylist())
        return pa.table({"answers": [answers.num_rows], "failed": [failed]})
