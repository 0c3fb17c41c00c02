"""Real kills of a real run: driver, worker actor and engine process, each while answers are coming in."""

from pathlib import Path

import psutil
import pytest

from codemmlu.engine import watchdog
from tests.runs import CountedRun, descendants, finish, gone, kill, named

pytestmark = pytest.mark.soak

QUESTIONS = 400
VICTIMS = {"driver": "", "worker": "BlockWorker", "engine": "EngineCore"}


@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_lost_or_doubled(victim: str, tmp_path: Path) -> None:
    run = CountedRun(tmp_path, QUESTIONS, "vllm")
    process = run.start()
    durable = run.wait_for_some(process)  # fails the round unless one answer is durable and one is missing
    asked = len(run.times_asked())
    below = descendants(process)
    engines = named(below, "VLLM::") + named(below, "spawn_main")
    targets: list[psutil.Process] = named(below, VICTIMS[victim]) if VICTIMS[victim] else [process]
    assert targets, f"there is no {victim} to kill"
    for target in targets:
        kill(target)
    first = finish(process)
    if victim == "driver":
        assert not gone(engines, seconds=30), "engine processes are left behind"
        assert not gone(below, seconds=120), "processes are left behind"
        first = run.run()
    assert first.code == 0, first.err
    there = run.durable()
    assert sorted(there) == sorted(f"q{i}" for i in range(QUESTIONS)), "lost or doubled"
    assert len(run.submission()) == QUESTIONS + 1
    twice = sum(times > 1 for times in run.times_asked().values())
    print(f"\n{victim}: {durable} durable and {asked} asked at the kill, {twice} asked twice")
    assert twice <= 64 + 16, "more was asked twice than can be in flight"
    assert max(run.times_asked().values()) <= 2
    watchdog.wait_until_closed("")
    assert not watchdog.marked(""), "engine processes are left behind"


def test_an_engine_killed_amid_conversations_leaves_whole_ones(tmp_path: Path) -> None:
    """Of `verify`: answers and checks in turn, up to a TRUE or the last choice."""
    run = CountedRun(tmp_path, 160, "vllm")
    process = run.start("voters.direct={model: m, method: verify}")
    durable = run.wait_for_some(process)
    engines = named(descendants(process), "EngineCore")
    assert engines, "there is no engine to kill"
    for engine in engines:
        kill(engine)
    done = finish(process)
    assert done.code == 0, done.err
    rows = run.answers()
    assert sorted(row["task_id"] for row in rows) == sorted(f"q{i}" for i in range(160)), "lost or doubled"
    turned = 0
    for row in rows:
        kinds = [turn["kind"] for turn in row["turns"]]
        last = row["turns"][-1]
        assert kinds == (["answer", "check"] * 3)[: len(kinds)], "a turn is missing"
        assert (last["kind"] == "check" and last["p_true"] >= 0.5) or kinds.count("answer") == 3, "it stops too early"
        turned += len(kinds) > 2
    print(f"\n{durable} durable at the kill, {turned} conversations of more than one answer")
    assert turned, "no conversation had a second answer: this round shows nothing"
