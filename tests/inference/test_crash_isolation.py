"""What engines die of: asked beside others once more, then alone, then given up. Here no process ends.

Real deaths are in tests/soak/test_deaths.py.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from codemmlu.errors import EngineDied
from codemmlu.inference.backlog import PENDING
from codemmlu.inference.crash_isolation import GIVEN_UP, REPLACEMENTS, CrashIsolation, explain
from codemmlu.inference.worker import AnswerWorker
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, to_table
from tests.support.rows import ASK, question

FOLDER = "pending/m/issue"


def block(*task_ids: str, specs: Sequence[str] = (ASK.name,)) -> pa.Table:
    """Return a pending block of questions with these asks each."""
    asks = [{"name": name, "log_prior": None, "threshold": None} for name in specs]
    rows = to_table([question(task_id) for task_id in task_ids], Question).to_pylist()
    return pa.Table.from_pylist([{**row, "split": "test", "asks": asks} for row in rows], schema=PENDING)


class Worker:
    """Answers blocks, and dies of one that holds a fatal question: nothing of it goes on after that."""

    def __init__(self, fatal: Iterable[str]) -> None:
        self.fatal, self.under_way, self.begun = set(fatal), list[list[str]](), list[list[list[str]]]()
        self.died = asyncio.Event()

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """See AnswerWorker."""
        task_ids = [str(task_id) for task_id in block["task_id"].to_pylist()]
        self.under_way.append(task_ids)
        self.begun.append([*self.under_way])
        for _ in range(30):  # Others begin meanwhile, once their records are written, on threads.
            await asyncio.sleep(0.02)
            if len(self.under_way) > 1:
                break
        if self.fatal & set(task_ids):
            self.died.set()
            await asyncio.Event().wait()
        self.under_way.remove(task_ids)
        yield pa.table({"task_id": task_ids, "error": [""] * len(task_ids)})

    async def fail_block(self, block: pa.Table, why: str) -> pa.Table:
        """See AnswerWorker."""
        return pa.table({"task_id": block["task_id"], "error": [why] * block.num_rows})


class Pool:
    """One actor that is started again whenever its engine dies, as Ray does it, with the blocks it had under way."""

    def __init__(self, folder: Path, *blocks: pa.Table) -> None:
        self.run = RunDir(str(folder))
        self.run.create()
        self.waiting = dict(enumerate(blocks))
        self.answers: dict[str, str] = {}
        self.begun: list[list[list[str]]] = []  # whenever a block was begun, all that were under way, it being the last
        self.engines = 0

    def ask(self, *fatal: str, most: int = 30) -> None:
        """Start engines, at most so many, until every block has been answered."""
        while self.waiting and self.engines < most:
            # The first one does not know that it may die, and writes nothing down.
            suspects = CrashIsolation(self.run, FOLDER, "actor") if self.engines else None
            self.engines += 1
            asyncio.run(self._engine(suspects, fatal))

    async def _engine(self, suspects: CrashIsolation | None, fatal: Iterable[str]) -> None:
        worker = Worker(fatal)
        blocks = [asyncio.create_task(self._ask(suspects, worker, number)) for number in self.waiting]
        watch = asyncio.create_task(worker.died.wait())
        left: set[asyncio.Task[Any]] = {*blocks}
        while left and not watch.done():
            done, left = await asyncio.wait({*left, watch}, return_when=asyncio.FIRST_COMPLETED)
            left.discard(watch)
            for task in done:
                task.result()
        self.begun += worker.begun
        for task in (*left, watch):
            task.cancel()

    async def _ask(self, suspects: CrashIsolation | None, worker: Worker, number: int) -> None:
        block, name = self.waiting[number], f"{FOLDER}/tried/{number}"
        answers = suspects.answers(cast(AnswerWorker, worker), name, block) if suspects else worker(block)
        async for table in answers:
            for row in table.to_pylist():
                assert row["task_id"] not in self.answers, "answered twice"
                self.answers[row["task_id"]] = row["error"]
            del self.waiting[number]

    @property
    def given_up(self) -> set[str]:
        """The questions that were given up."""
        return {task_id for task_id, error in self.answers.items() if error == GIVEN_UP}


def test_a_death_that_is_not_repeated_costs_nothing(tmp_path: Path) -> None:
    pool = Pool(tmp_path, block("t0", "t1"), block("t2"))
    pool.ask("t1", most=1)
    pool.ask()
    assert [under_way[-1] for under_way in pool.begun].count(["t0", "t1"]) == 2, "asked again as a whole"
    assert (set(pool.answers), pool.given_up, pool.engines) == ({"t0", "t1", "t2"}, set(), 2)


def test_only_the_question_that_kills_is_given_up(tmp_path: Path) -> None:
    pool = Pool(tmp_path, block("t0", "t1", "t2"), block("t3"), block("t4", "t5"))
    pool.ask("t1")
    assert set(pool.answers) == {f"t{n}" for n in range(6)}
    assert pool.given_up == {"t1"}
    assert pool.engines == 4, "the first, one beside others, one alone, and one for the rest"


def test_every_question_of_a_block_that_kills_is_given_up(tmp_path: Path) -> None:
    pool = Pool(tmp_path, block("t0", "t1", "t2"), block("t3", "t4"))
    pool.ask("t0", "t2", "t3")
    assert set(pool.answers) == {f"t{n}" for n in range(5)}
    assert pool.given_up == {"t0", "t2", "t3"}


def test_a_suspect_is_asked_with_nothing_else_under_way(tmp_path: Path) -> None:
    """What was not under way at both deaths comes before it, and after it."""
    pool = Pool(tmp_path, block("t1", "t2"))
    pool.ask("t1", most=2)
    pool.waiting = {7: block("t3", "t4"), **pool.waiting, 8: block("t5", "t6"), 9: block("t7", "t8")}
    pool.ask("t1")
    alone = [under_way for under_way in pool.begun if any(len(task_ids) == 1 for task_ids in under_way)]
    assert {under_way[-1][0] for under_way in alone} == {"t1", "t2"}
    assert {len(under_way) for under_way in alone} == {1}
    assert max(len(under_way) for under_way in pool.begun) > 1


def test_engines_that_die_in_a_row_are_replaced_no_more(tmp_path: Path) -> None:
    task_ids = [f"t{n}" for n in range(20)]
    pool = Pool(tmp_path, block(*task_ids))
    explain(pool.run, FOLDER, "node 7: no driver")
    with pytest.raises(EngineDied, match=rf"{REPLACEMENTS + 1} engines in a row .*on node 7: no driver"):
        pool.ask(*task_ids)
    assert (pool.engines, pool.answers) == (1 + REPLACEMENTS, {})


def test_an_answer_between_two_deaths_counts_them_anew(tmp_path: Path) -> None:
    """More die here than may die in a row."""
    blocks = [block(f"t{n}", f"t{n}0") for n in range(1, 7)]
    fatal = [f"t{n}0" for n in range(1, 7)]
    pool = Pool(tmp_path, *blocks)
    pool.ask(*fatal)
    assert pool.given_up == set(fatal)
    assert pool.engines > 1 + REPLACEMENTS


class DiesOfTuned(Worker):
    """Dies of every ask of one spec, as an engine does of an adapter that it cannot load."""

    async def __call__(self, block: pa.Table) -> AsyncIterator[pa.Table]:
        """See AnswerWorker."""
        specs = [spec["name"] for row in block["asks"].to_pylist() for spec in row or ()]
        if "tuned" in specs:
            self.died.set()
            await asyncio.Event().wait()
        yield pa.table({"task_id": [f"{block['task_id'][0]}/{specs[0]}"], "error": [""]})


def test_an_ask_that_always_kills_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The base answers between two deaths, which says nothing of the adapter: 1,253 questions were as many engines."""
    monkeypatch.setattr(sys.modules[__name__], "Worker", DiesOfTuned)
    pool = Pool(tmp_path, block(*(f"t{n}" for n in range(20)), specs=["base", "tuned"]))
    with pytest.raises(EngineDied, match=rf"{REPLACEMENTS + 1} engines in a row died without one answer of tuned"):
        pool.ask(most=40)
    assert pool.engines <= 3 + REPLACEMENTS + 1
