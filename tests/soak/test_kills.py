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
