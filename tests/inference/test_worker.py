"""The worker, driven as Ray Data drives it: many blocks at once, and one row's trouble stops no other."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from codemmlu.engine import watchdog
from codemmlu.engine.protocol import EngineSettings
from codemmlu.engine.scripted import Script
from codemmlu.errors import UserError
from codemmlu.inference.backlog import PENDING
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.worker import AnswerWorker, WorkerSpec
from codemmlu.mcq import render
from codemmlu.schema import ANSWER, Answer, Question, answer_from, to_table
from tests.support.engines import SETTINGS, RecordingEngine
from tests.support.processes import ends
from tests.support.rows import ASK, question

OTHER = replace(ASK, template="reference")


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The marks that watchdogs were to be started with. Real ones would stay until pytest ends."""
    marks: list[str] = []
    monkeypatch.setattr(watchdog, "start", marks.append)
    return marks


def asking(*questions: Question, asks: Sequence[InferenceSpec] = (ASK,)) -> pa.Table:
    """A pending block."""
    asked = [{"name": ask.name, "log_prior": None} for ask in asks]
    rows = [{**row, "split": "test", "asks": asked} for row in to_table(questions, Question).to_pylist()]
    return pa.Table.from_pylist(rows, schema=PENDING)


class Driven:
    """A worker and its scripted engine."""

    def __init__(self, script: Script, *asks: InferenceSpec, at_once: int = 256) -> None:
        engines: list[RecordingEngine] = []

        def open_engine(settings: EngineSettings) -> RecordingEngine:
            engines.append(RecordingEngine(script))
            return engines[-1]

        self.worker = AnswerWorker(WorkerSpec(open_engine, SETTINGS), asks or (ASK,), 4, at_once, "run")
        (self.engine,) = engines

    def tables(self, *blocks: pa.Table) -> list[list[pa.Table]]:
        """What the worker yields for each block, all blocks in flight together."""

        async def one(block: pa.Table) -> list[pa.Table]:
            return [table async for table in self.worker(block)]

        async def together() -> list[list[pa.Table]]:
            return await asyncio.gather(*map(one, blocks))

        return asyncio.run(together())

    def answers(self, *blocks: pa.Table) -> list[Answer]:
        """The rows of all blocks."""
        return [answer_from(row) for block in self.tables(*blocks) for table in block for row in table.to_pylist()]


def test_an_answer_says_what_every_row_must_say() -> None:
    asked = question("t1", choices=("one", "two", "three"))
    driven = Driven(Script(answers={"print": "three"}))
    before, began = time.time(), time.monotonic()
    (row,) = driven.answers(asking(asked))
    (only,) = row.readings
    assert (row.status, row.letter, row.error) == ("answered", "C", None)
    assert (row.key, row.task_id, row.split, row.ask) == (ASK.key(asked), "t1", "test", ASK.name)
    assert only.order == (0, 1, 2)
    assert only.mass == pytest.approx(0.9)
    assert only.logprobs == pytest.approx([-2.302585, -2.302585, -0.356675])
    assert row.prompt_tokens == only.prompt_tokens == len(render(asked, "codemmlu").messages[0].content.split())
    assert (row.cached_tokens, row.generated_tokens, row.turns) == (0, 1, ())
    assert before <= row.started <= time.time()
    assert 0 <= row.seconds <= time.monotonic() - began


def test_every_block_comes_back_as_one_block_of_its_own_answers() -> None:
    blocks = [asking(*(question(f"t{10 * b + n}") for n in range(b + 1))) for b in range(4)]
    found = Driven(Script()).tables(*blocks)
    for block, tables in zip(blocks, found, strict=True):
        (table,) = tables
        assert table["task_id"].to_pylist() == block["task_id"].to_pylist()
        assert table.schema.equals(ANSWER, check_metadata=True)


def test_each_ask_that_is_due_is_asked_once() -> None:
    driven = Driven(Script(), ASK, OTHER)
    rows = driven.answers(asking(question("t1"), asks=[ASK, OTHER]), asking(question("t2"), asks=[OTHER]))
    assert [(row.task_id, row.ask) for row in rows] == [("t1", ASK.name), ("t1", OTHER.name), ("t2", OTHER.name)]
    assert len({row.key for row in rows}) == len(driven.engine.scored) == 3


def test_all_questions_of_all_blocks_are_under_way_at_once() -> None:
    driven = Driven(Script(seconds=0.1))
    blocks = [asking(*(question(f"t{10 * b + n}") for n in range(10))) for b in range(5)]
    assert len(driven.answers(*blocks)) == driven.engine.most_at_once == 50


def test_a_large_block_has_no_more_under_way_than_it_should() -> None:
    driven = Driven(Script(seconds=0.01), at_once=3)
    blocks = [asking(*(question(f"t{10 * b + n}") for n in range(10))) for b in range(2)]
    assert len(driven.answers(*blocks)) == 20
    assert driven.engine.most_at_once == 3


def test_a_prompt_that_does_not_fit_is_a_failed_row() -> None:
    long = question("t1", question="LONG")
    rows = Driven(Script(too_long=("LONG",))).answers(asking(question("t0"), long, question("t2")))
    assert [row.status for row in rows] == ["answered", "failed", "answered"]
    assert rows[1].error == "the prompt has 9,999 tokens, this engine takes 100"
    assert (rows[1].letter, rows[1].readings, rows[1].prompt_tokens, rows[1].key) == (None, (), 0, ASK.key(long))


def test_a_bug_is_a_failed_row_and_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever its message holds: this one has a lone surrogate, which no file can."""
    rows = Driven(Script(breaks=("BUG",))).answers(asking(question("t0"), question("t1", question="BUG")))
    assert [row.status for row in rows] == ["answered", "failed"]
    assert rows[1].error == "RuntimeError: scripted: broken on ? this"
    assert "t1 failed" in caplog.text
    assert "Traceback" in caplog.text


def test_an_error_in_a_later_turn_leaves_no_half_conversation() -> None:
    verify = replace(ASK, method="verify", settings=(("threshold", 0.5),))
    third = "ODD?\n\nChoices:\nA. one\nB. three"  # after the check of `two`
    script = Script(answers={"ODD": "two"}, refuted=("two",), breaks=(third,))
    driven = Driven(script, verify)
    rows = driven.answers(asking(question("t0"), question("t1", question="ODD?"), asks=(verify,)))
    assert [row.status for row in rows] == ["answered", "failed"]
    assert (rows[1].letter, rows[1].turns, rows[1].readings) == (None, (), ())
    assert sum("ODD?" in prompt.messages[-1].content for prompt in driven.engine.scored) == 3


def test_a_reading_that_is_not_finite_fails_and_is_kept() -> None:
    rows = Driven(Script(not_finite=("ODD",))).answers(asking(question("t0"), question("t1", question="ODD")))
    assert [row.status for row in rows] == ["answered", "failed"]
    assert rows[1].error == "a letter came back without a finite log-probability"
    assert rows[1].letter is None
    assert rows[1].readings[0].logprobs[-1] == float("-inf")
    assert rows[1].prompt_tokens > 0


def test_an_engine_is_checked_once_for_each_template() -> None:
    three = question("t3", choices=("a", "b", "c"))
    driven = Driven(Script(seconds=0.01), ASK, OTHER)
    rows = driven.answers(asking(*(question(f"t{n}") for n in range(3))), asking(three, asks=[ASK, OTHER]))
    assert len(rows) == 5
    assert [len(prompt.letters) for prompt in driven.engine.checked] == [4, 4]
    assert len({prompt.prefill for prompt in driven.engine.checked}) == 2


def test_a_rejected_model_is_asked_no_question() -> None:
    driven = Driven(Script(rejected="the letter A is not one token"))
    with pytest.raises(UserError, match="the letter A is not one token"):
        driven.answers(asking(question("t1"), question("t2")))
    assert driven.engine.scored == []
    assert len(driven.engine.checked) == 1


def test_each_worker_is_watched_under_a_mark_of_its_own(watched: list[str]) -> None:
    Driven(Script())
    Driven(Script())
    assert len(set(watched)) == 2
    assert all(mark.startswith("run-") for mark in watched)


DYING = """
import asyncio, subprocess, sys
from codemmlu.inference.worker import AnswerWorker, WorkerSpec
from tests.inference.test_worker import asking
from tests.support.rows import ASK, question
from codemmlu.engine.scripted import Script
from tests.support.engines import SETTINGS, RecordingEngine

def open_engine(settings):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print(child.pid, flush=True)
    return RecordingEngine(Script(kills_engine=("DIES",)))

async def drive():
    worker = AnswerWorker(WorkerSpec(open_engine, SETTINGS), [ASK], 4, 256, "run")
    for block in (asking(question("t1")), asking(question("t2", question="DIES"))):
        print([table.num_rows async for table in worker(block)], flush=True)

asyncio.run(drive())
print("still here", flush=True)
"""


def test_a_worker_whose_engine_died_leaves_no_process() -> None:
    """Ray replaces an actor that ends; an exception would end the job. What the engine had started ends with it."""
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", DYING], capture_output=True, text=True, timeout=120, env=here)
    child, *blocks = done.stdout.splitlines()
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert blocks == ["[1]"]
    assert "this worker ends so that Ray replaces it" in done.stderr
    assert ends(int(child))


def test_an_adapter_that_cannot_be_served_ends_the_run() -> None:
    """Not each question of it: the failure is the adapter's, and is known before the first answer."""
    tuned = replace(ASK, adapter="weights", weights="with the adapter")
    driven = Driven(Script(adapter_rejected="the adapter weights cannot be served"), ASK, tuned)
    with pytest.raises(UserError, match="the adapter weights cannot be served"):
        driven.answers(asking(question("t1"), asks=[ASK, tuned]))
    assert driven.engine.scored == []
    assert Driven(Script(adapter_rejected="x")).answers(asking(question("t1")))[0].status == "answered"
