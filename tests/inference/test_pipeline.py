"""The pipeline of a pool without Ray: how the driver follows it, and what the actor does with each block.

Whole pools on Ray are in tests/test_jobs.py.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
import ray
import ray.exceptions

from codemmlu.cli.console import Terminal
from codemmlu.engine import watchdog
from codemmlu.engine.placement.placement import Placement
from codemmlu.engine.protocol import Engine, EngineSettings
from codemmlu.engine.scripted import Script
from codemmlu.errors import EngineDied, UserError
from codemmlu.inference import pipeline
from codemmlu.inference.answer_store import AnswerKeySet
from codemmlu.inference.backlog import PendingFolder, WorkItem, write_backlog
from codemmlu.inference.pipeline import BlockWorker, run_pipeline
from codemmlu.inference.pool import ActorArguments, Pool, PoolSpec, StageBlocks
from codemmlu.inference.worker import WorkerSpec
from codemmlu.run_dir import ATTEMPT, RunDir
from tests.support.engines import SETTINGS, RecordingEngine
from tests.support.rows import ASK, question

FOLDER = "pending/m/issue"
STAGE = f"{FOLDER}/0"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run that this issue writes."""
    made = RunDir(str(tmp_path))
    made.create()
    made.write(ATTEMPT, b"this one")
    return made


@dataclass
class ScriptedPool:
    """Stands for the actors: gives back one answer for each ask of a stage that has been written, in blocks of two.

    asks: of each stage, known when it is written; lost: answers that never come back
    """

    run: RunDir
    asks: tuple[int, ...]
    lost: int = 0
    events: list[str] = field(default_factory=list)
    error: Exception | None = None

    def stages(self) -> list[StageBlocks]:
        """Each may have one block more than it comes to have."""
        known = [self.asks[0], *[0] * (len(self.asks) - 1)]
        return [
            StageBlocks(f"{FOLDER}/{n}", -(-asks // 2) + 1, known[n], self._fill(n, asks))
            for n, asks in enumerate(self.asks)
        ]

    def _fill(self, number: int, asks: int) -> Callable[[], tuple[int, int]]:
        def fill() -> tuple[int, int]:
            self.events.append(f"stage {number} written")
            return -(-asks // 2), asks

        return fill

    def iter_batches(self, **_: Any) -> Iterator[pa.Table]:
        """See ray.data.Dataset."""
        for number, stage in enumerate(self.stages()):
            while not self.run.exists(stage.ready):  # the first one is written beside
                assert number == 0, "a stage was not written when all before it was durable"
                time.sleep(0.001)
            left = self.asks[number]
            for block in range(stage.most):
                answers = min(2, left) if block < int(self.run.read(stage.ready)) else 0
                left -= answers
                self.events.append(f"{answers} of stage {number} durable")
                yield pa.table({"answers": [answers - (self.lost if block == 0 else 0)], "failed": [0]})
        if self.error:
            raise self.error

    def ask(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ask all of it."""
        monkeypatch.setattr(pipeline, "_plan", lambda *_: self)
        worker = PoolSpec(WorkerSpec(None, None), (ASK,), 4, 8)
        run_pipeline(Terminal(), self.run, Pool("m", worker, Placement(1, 0, 8, {}), 2), self.stages())


def test_a_stage_is_written_once_those_before_are_durable(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = ScriptedPool(run, (3, 0, 4))
    pool.ask(monkeypatch)
    assert pool.events == [
        "stage 0 written",
        *["2 of stage 0 durable", "1 of stage 0 durable", "0 of stage 0 durable", "stage 1 written"],
        *["0 of stage 1 durable", "stage 2 written"],
        *["2 of stage 2 durable", "2 of stage 2 durable", "0 of stage 2 durable"],
    ]
    out = capsys.readouterr().out
    assert "m: the first 2 of 3 are in" in out
    assert "m: 7 of 7" in out, "what later stages turn out to ask counts too"


def test_an_answer_that_is_lost_is_a_bug(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="m: 7 asks went in and 5 answers came out"):
        ScriptedPool(run, (3, 4), lost=1).ask(monkeypatch)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("x.py\ncodemmlu.errors.UserError: no letter A\n", UserError, "no letter A"),
        ("codemmlu.errors.EngineDied: 5 in a row", EngineDied, "the run stopped: 5 in a row"),
        ("Worker exit detail: killed", EngineDied, "the run stopped: Worker exit detail: killed"),
    ],
)
def test_an_error_of_an_actor_is_told_as_what_it_is(
    text: str, kind: type[Exception], message: str, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = ScriptedPool(run, (1,), error=ray.exceptions.RayError(text))
    with pytest.raises(kind, match=f"^{message}$"):
        pool.ask(monkeypatch)


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """This process stands for an actor that Ray has started for the first time. The processes that it kills."""
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
    context = SimpleNamespace(was_current_actor_reconstructed=False, get_actor_id=lambda: "actor")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")
    monkeypatch.setattr(watchdog, "start", lambda mark: None)
    monkeypatch.setattr(BlockWorker, "POLL", 0)
    monkeypatch.setattr(BlockWorker, "PAUSE", 0)
    return killed


def opened(run: RunDir, open_engine: Callable[[EngineSettings], Engine] | None = None) -> BlockWorker:
    """Open the worker of a pool."""
    scripted = open_engine or (lambda settings: RecordingEngine(Script()))
    worker = PoolSpec(WorkerSpec(scripted, SETTINGS), (ASK,), 4, 8)
    return BlockWorker(ActorArguments(worker, run.address, FOLDER, "answers/m", b"this one", "mark"))


def fill(run: RunDir, *task_ids: str) -> None:
    """Write the blocks of the first stage, two questions in each."""
    items = [WorkItem(question(task_id), "test", (ASK,)) for task_id in task_ids]
    StageBlocks(STAGE, 9, 0, lambda: write_backlog(PendingFolder(run, STAGE, 2), AnswerKeySet(), items, {})).write(run)


async def counts(worker: BlockWorker, *blocks: int) -> list[dict[str, int]]:
    """Return what the worker gives back for these blocks of the first stage."""
    places = pa.Table.from_pylist([{"folder": STAGE, "block": block} for block in blocks])
    rows = [row async for table in worker(places) for row in table.to_pylist()]
    return [{name: row[name] for name in ("answers", "failed")} for row in rows]


def kept(run: RunDir) -> list[str]:
    """Return the task_ids of all durable answers."""
    return [str(name) for file in run.files("answers/m") for name in run.read_table(file)["task_id"].to_pylist()]


@pytest.mark.usefixtures("actor")
def test_a_block_is_answered_and_kept_once(run: RunDir) -> None:
    """However often Ray runs it; and a stage has as many blocks as it says, not as many as it may have."""
    fill(run, "t0", "t1", "t2")
    worker = opened(run)
    assert asyncio.run(counts(worker, 0, 1, 2)) == [{"answers": n, "failed": 0} for n in (2, 1, 0)]
    assert asyncio.run(counts(opened(run), 0)) == [{"answers": 2, "failed": 0}]
    assert sorted(kept(run)) == ["t0", "t1", "t2"]


@pytest.mark.usefixtures("actor")
def test_a_block_that_is_not_there_yet_is_waited_for(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    missed, exists = threading.Event(), RunDir.exists

    def look(self: RunDir, name: str) -> bool:
        there = exists(self, name)
        if name.endswith("/ready") and not there:
            missed.set()
        return there

    async def late() -> list[dict[str, int]]:
        asked = asyncio.create_task(counts(opened(run), 0))
        assert await asyncio.to_thread(missed.wait, 60)
        fill(run, "t0")
        return await asked

    monkeypatch.setattr(RunDir, "exists", look)
    assert asyncio.run(late()) == [{"answers": 1, "failed": 0}]


@pytest.mark.usefixtures("actor")
def test_blocks_of_an_earlier_issue_are_not_waited_for(run: RunDir) -> None:
    worker = opened(run)
    run.write(ATTEMPT, b"a later one")
    assert asyncio.run(counts(worker, 0)) == [{"answers": 0, "failed": 0}]


@pytest.mark.usefixtures("actor")
def test_answers_of_an_earlier_issue_are_dropped(run: RunDir) -> None:
    """The later one asks these questions itself."""

    class Overtaken(RecordingEngine):
        async def score(self, *arguments: Any) -> Any:
            run.write(ATTEMPT, b"a later one")
            return await super().score(*arguments)

    fill(run, "t0")
    worker = opened(run, lambda settings: Overtaken(Script()))
    assert asyncio.run(counts(worker, 0)) == [{"answers": 0, "failed": 0}]
    assert kept(run) == []


@pytest.mark.usefixtures("actor")
def test_failed_answers_are_kept_and_counted(run: RunDir) -> None:
    fill(run, "t0", "t1")
    worker = opened(run, lambda settings: RecordingEngine(Script(too_long=("print",))))
    assert asyncio.run(counts(worker, 0)) == [{"answers": 2, "failed": 2}]
    assert sorted(kept(run)) == ["t0", "t1"]


def unable(settings: EngineSettings) -> Engine:
    """Open no engine."""
    raise UserError("no driver")


def test_the_first_engine_that_cannot_open_is_a_mistake(run: RunDir, actor: list[int]) -> None:
    with pytest.raises(UserError, match="no driver"):
        opened(run, unable)
    assert actor == []


def test_a_later_engine_that_cannot_open_is_its_nodes_trouble(run: RunDir, actor: list[int]) -> None:
    """Ray starts another one when its process ends."""
    fill(run, "t0")
    asyncio.run(counts(opened(run), 0))
    opened(run, unable)
    assert actor == [os.getpid()]
    assert run.read(f"{FOLDER}/why") == b"10.0.0.7: no driver"


@pytest.mark.usefixtures("actor")
def test_a_node_that_does_not_see_the_run_is_named(run: RunDir) -> None:
    run.remove(ATTEMPT)
    with pytest.raises(UserError, match=r"is not the same directory on every node \(10\.0\.0\.7 does not see it\)"):
        opened(run)
