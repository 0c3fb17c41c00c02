"""The Ray Data pipeline of one pool: block references go in, the counts of durable answers come out.

The plan streams: a block is durable as soon as it is answered, the driver holds only counts, and the order of blocks
means nothing. `rows in == rows out` is asserted at the end.

Reading, answering and keeping a block are one step, in one process: beside an engine on the CPU even a process that
waits takes some of its cores (an idle Ray worker was measured at 0.7 % of one).
"""

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace

import pyarrow as pa
import ray.data
import ray.exceptions

from codemmlu.cluster import locks, session, tasks
from codemmlu.engine import watchdog
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import Progress, ProgressLine, UserError
from codemmlu.inference import crash_isolation, letter_mass
from codemmlu.inference.answer_store import file_name
from codemmlu.inference.pool import ActorArguments, Pool, StageBlocks
from codemmlu.inference.startup import Startup
from codemmlu.inference.worker import AnswerWorker
from codemmlu.run_dir import ATTEMPT, RunDir

_NOTHING = pa.table({"answers": [0], "failed": [0], "masses": pa.array([[]], letter_mass.SUMS)})


def run_pipeline(progress: Progress, run: RunDir, pool: Pool, stages: Sequence[StageBlocks]) -> None:
    """Compute the answers due, with one start of the engines for all stages.

    The engines start, and answer, while later blocks of the first stage are still being written. A UserError, a
    KeyboardInterrupt, or an EngineDied where engines keep dying, ends the pipeline.

    Args:
        progress: Where to report.
        run: The run directory.
        pool: The engines.
        stages: The stages, in order.
    """
    mark = uuid.uuid4().hex
    written: Future[int] = Future()
    startup = Startup(pool.name, pool.start_timeout, session.logs_folder())

    def write() -> None:
        written.set_result(stages[0].write(run))

    def follow() -> None:
        try:
            answers = f"answers/{pool.name}"
            actor = ActorArguments(pool.worker, run.address, stages[0].attempt, answers, run.read(ATTEMPT), mark)
            counts = _rows(_plan(pool, stages, actor), pool, startup)
            with progress.progress(pool.name, stages[0].due) as line:
                due, durable = _follow(run, counts, stages, written, line)
        except ray.exceptions.RayError as error:
            raise tasks.reason(error) from error
        finally:
            startup.end()
        if durable != due:
            raise RuntimeError(f"{pool.name}: {due} asks went in and {durable} answers came out")

    def watch() -> None:
        startup.watch(progress)

    tasks.together([write, follow, watch] if pool.worker.worker_spec.settings else [write, follow])
    watchdog.wait_until_closed(mark)


def _follow(
    run: RunDir,
    counts: Iterable[dict[str, int]],
    stages: Sequence[StageBlocks],
    written: Future[int],
    line: ProgressLine,
) -> tuple[int, int]:
    """Count answers as they become durable, and write each later stage when the one before has ended.

    Args:
        run: The run directory.
        counts: The numbers of answers and of failed ones, of one block after another.
        stages: The stages, in order.
        written: The number of answers due in the first stage, once it is written.
        line: The progress to report.

    Returns:
        The numbers of answers due and of durable answers.
    """
    later = list(stages[1:])
    due = durable = 0
    open_blocks = stages[0].most
    for row in counts:
        durable += row["answers"]
        open_blocks -= 1
        line.advance(row["answers"], row["failed"])
        while not open_blocks and later:
            stage = later.pop(0)
            more = stage.write(run)
            due += more
            open_blocks = stage.most
            line.extend(more - stage.due)
    return due + written.result(), durable


def _rows(counts: ray.data.Dataset, pool: Pool, startup: Startup) -> Iterator[dict[str, int]]:
    """Yield the counts of each block that is durable, once its letter masses are looked at."""
    for block in counts.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        startup.end()
        for row in block.to_pylist():
            if pool.masses:
                pool.masses.add(row["masses"])
            yield row


def _plan(pool: Pool, stages: Sequence[StageBlocks], actor: ActorArguments) -> ray.data.Dataset:
    """List the visible steps: block references -> read, answer, keep -> counts of durable answers."""
    tasks.quiet()
    placement, in_flight = pool.placement, max(2, pool.placement.in_flight // pool.per_block)
    references = [{"folder": stage.folder, "block": block} for stage in stages for block in range(stage.most)]
    # Ray Data restarts an actor that died, and hands it what it had in flight, without end: see crash_isolation.py.
    return ray.data.from_items(references, override_num_blocks=len(references)).map_batches(
        BlockWorker,
        fn_constructor_args=(actor,),
        batch_size=1,  # A reference is a block of its own; with GPUs Ray Data does not take None.
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            min_size=placement.replicas,
            max_size=placement.at_most,
            max_tasks_in_flight_per_actor=in_flight,
            max_concurrent_calls_per_actor=in_flight,
        ),
        num_cpus=0,  # The cores are left to the engine's own processes.
        num_gpus=placement.actor_gpus,
        # Request one byte of memory so that Ray spreads CPU engines across nodes: an actor that requests nothing may be
        # put anywhere, two engines on one node and none on the next. With GPUs even a byte is too much: a node that has
        # not started yet may not be known to have memory.
        **({} if placement.gpus_each else {"memory": 1}),
        **({"accelerator_type": placement.label} if placement.label else {}),
    )


class BlockWorker:
    """The actor of a pool: reads a pending block, answers it and keeps the answers in a file of their own.

    The file's name follows from its keys, so a block that Ray runs twice is written once. A block of a job that was
    killed and started again meanwhile is dropped: the new job asks the block's questions itself.
    """

    PAUSE = 5.0  # seconds before an engine that could not start is replaced
    POLL = 0.25  # seconds between two checks whether a block is written

    def __init__(self, arguments: ActorArguments) -> None:
        """Open the worker; an actor that cannot, where others could, ends after a pause and is replaced."""
        self._run, self._folder = RunDir(arguments.address), arguments.folder
        self._attempt, self._stages, spec = arguments.attempt, arguments.stages, arguments.worker
        if not self._run.exists(ATTEMPT):  # This node joined after the check of the others.
            raise locks.unshared(self._run, ray.util.get_node_ip_address())
        this = ray.get_runtime_context()
        again = this.was_current_actor_reconstructed
        self._isolation = (
            crash_isolation.CrashIsolation(self._run, self._stages, this.get_actor_id()) if again else None
        )
        self._has_answered = False
        worker_spec = spec.worker_spec
        if worker_spec.settings and not is_scripted(worker_spec.settings.source):
            settings = replace(worker_spec.settings, cores=session.cores_here())
            worker_spec = replace(worker_spec, settings=settings)
        try:
            self._answer = AnswerWorker(worker_spec, spec.specs, spec.most_choices, spec.at_once, arguments.mark)
        except UserError as error:
            if not self._run.exists(self._works):
                raise
            # Other engines of this attempt started, so it is no mistake of the user's but this node's trouble, which
            # may pass.
            crash_isolation.explain(self._run, self._stages, f"{ray.util.get_node_ip_address()}: {error}")
            time.sleep(self.PAUSE)
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def _works(self) -> str:
        """Return the file that exists once an engine of this attempt has answered."""
        return f"{self._stages}/works"

    async def __call__(self, references: pa.Table) -> AsyncIterator[pa.Table]:
        """Answer referenced blocks; storage is awaited on a thread, so that the engine never waits for it.

        Args:
            references: Rows of a folder and the number of a block.

        Yields:
            One row of counts for each block.
        """
        for reference in references.to_pylist():
            block = await self._block(reference["folder"], reference["block"])
            if block is None:
                yield _NOTHING
                continue
            async for answers in self._answers(f"{reference['folder']}/tried/{reference['block']:06d}", block):
                kept = await asyncio.to_thread(self._keep, answers)
                if not self._has_answered:
                    self._has_answered = True
                    with contextlib.suppress(UserError):  # This is a hint: storage that is gone shows with the answers.
                        await asyncio.to_thread(self._run.write, self._works, b"")
                yield kept

    def _answers(self, record: str, block: pa.Table) -> AsyncIterator[pa.Table]:
        """Answer a block; `record` is the file of its attempts, once an engine has died."""
        return self._answer(block) if self._isolation is None else self._isolation.answers(self._answer, record, block)

    async def _block(self, folder: str, number: int) -> pa.Table | None:
        """Wait for a pending block; None: its stage has fewer blocks, or another attempt has begun."""
        name = f"{folder}/{number:06d}.parquet"
        while not await asyncio.to_thread(self._run.exists, name):
            if await asyncio.to_thread(self._run.exists, f"{folder}/ready"):
                if number >= int(await asyncio.to_thread(self._run.read, f"{folder}/ready")):
                    return None
                continue  # The block was written between the two checks.
            if await asyncio.to_thread(self._run.read, ATTEMPT) != self._attempt:
                return None
            await asyncio.sleep(self.POLL)
        return await asyncio.to_thread(self._run.read_table, name)

    def _keep(self, answers: pa.Table) -> pa.Table:
        if self._run.read(ATTEMPT) != self._attempt:
            return _NOTHING
        name = file_name(str(key) for key in answers["key"].to_pylist())
        self._run.write_table(f"{self._folder}/{name}.parquet", answers)
        failed = sum(status == "failed" for status in answers["status"].to_pylist())
        masses = pa.array([letter_mass.sums_of(answers)], letter_mass.SUMS)
        return pa.table({"answers": [answers.num_rows], "failed": [failed], "masses": masses})
