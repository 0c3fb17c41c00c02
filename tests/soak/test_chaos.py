"""Chaos on two raylets: kills at random moments, and what is there after the job is re-issued.

    CHAOS_ROUNDS=20 CHAOS_SEED=7 pytest -s tests/soak/test_chaos.py

A round counts when at the kill at least one answer is durable and one is missing; one that does not is repeated.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from codemmlu.engine.scripted import CORE_PROCESS
from codemmlu.inference.methods import METHODS, MethodInput, MethodResult
from codemmlu.recipe import DirectVoter, VerifyVoter
from codemmlu.schema import question_from
from tests.support.disturbed_runs import QUESTIONS, SCRIPT, check_finished, check_nothing_left
from tests.support.processes import finish, kill
from tests.support.raylets import Raylets, processes_of, two_raylets
from tests.support.rows import spec_of
from tests.support.runs import ScriptedRun
from tests.support.tiny_model import tiny_model
from tests.support.transformers_engine import CLOSE, TransformersEngine

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("raylets")]

VICTIMS = {"engine": CORE_PROCESS, "worker": "BlockWorker", "raylet": "raylet/raylet", "driver": "jobs/answer.py"}
# As many as there are victims: each is killed once.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", str(len(VICTIMS))))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
ENGINES = 2
BATCH = 64  # questions that an engine has in flight
REAL_QUESTIONS = 150


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    """Two raylets for all rounds."""
    with two_raylets() as cluster:
        yield cluster


def start(run: ScriptedRun) -> "psutil.Popen":
    """The run's job with an engine on each raylet, which has just begun."""
    return run.start(f"models.m.replicas={ENGINES}")


def test_two_raylets_share_the_work(cluster: Raylets, tmp_path: Path) -> None:
    """An engine on each, and both have work to do. How quick they are is printed, not promised."""
    run = ScriptedRun(tmp_path, QUESTIONS, SCRIPT | {"seconds": 2.0}, cluster.environment)
    process = start(run)
    run.wait_for_some(process)
    homes = [worker.ppid() for worker in processes_of(cluster.folder, VICTIMS["worker"])]
    done = finish(process)
    assert done.code == 0, done.err
    assert len(set(homes)) == len(homes) == ENGINES, "a raylet has more than one engine"
    assert check_finished(cluster.folder, run) == 0
    shares = [counts.total() for counts in run.by_engine().values()]
    rows = run.answers()
    took = max(row["started"] + row["seconds"] for row in rows) - min(row["started"] for row in rows)
    print(f"\n{ENGINES} engines: {QUESTIONS / took:.1f} questions/s, balance {shares}", end="")
    # Two engines seldom start in the same second.
    assert min(shares) > 0.2 * sum(shares), "one engine does most of the work"


def test_kills_at_random_moments(cluster: Raylets, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    counted: Counter[str] = Counter()
    order = [victim for _ in range(-(-ROUNDS // len(VICTIMS))) for victim in rng.sample([*VICTIMS], len(VICTIMS))]
    for number, victim in enumerate(order[:ROUNDS]):
        for attempt in range(5):
            if one_round(cluster, tmp_path / f"{number}-{attempt}", victim, rng):
                counted[victim] += 1
                break
    print(f"\nseed {SEED}: {counted.total()} of {ROUNDS} rounds counted, none lost an answer: {dict(counted)}")
    assert counted.total() == ROUNDS, "a round that does not count shows nothing"


def one_round(cluster: Raylets, folder: Path, victim: str, rng: random.Random) -> bool:
    """Whether it counts; what is wrong raises."""
    run = ScriptedRun(folder, QUESTIONS, SCRIPT, cluster.environment)
    process = start(run)
    run.wait_for_some(process, rng.randint(1, QUESTIONS // 2))
    time.sleep(rng.uniform(0, 0.5))
    durable = len(run.durable())
    if victim == "raylet":
        cluster.kill_second()
    else:
        kill(process if victim == "driver" else rng.choice(processes_of(cluster.folder, VICTIMS[victim])))
    first, issues = finish(process), 1
    if victim == "raylet":
        cluster.replace_second()
    last = first
    while last.code and issues < 3:
        last, issues = finish(start(run)), issues + 1
    assert last.code == 0, last.err
    twice = check_finished(cluster.folder, run)
    print(f"\n{victim}: {durable} durable at the kill, {twice} asked twice, {issues} issues", end="")
    assert twice <= ENGINES * 2 * BATCH, "more was asked twice than can be in flight"
    return 1 <= durable < QUESTIONS


def test_a_real_engine_is_killed_and_says_the_same(cluster: Raylets, tmp_path: Path) -> None:
    """Nothing is lost, doubled, cut short or changed: each answer is what transformers says, asked one by one.

    The engine's process is killed, then the driver, each while answers come in.
    """
    model = tiny_model(tmp_path / "tiny", spread=0.15)
    run = ScriptedRun(tmp_path / "run", REAL_QUESTIONS, environment=cluster.environment, source=str(model))
    settings: tuple[str, ...] = ("cpu_kv_cache_gib=1", f"max_num_seqs={BATCH}", "dtype=float32", "max_model_len=1024")
    settings += ("allow_low_mass=true",)
    given = [*(f"models.m.{setting}" for setting in settings), "voters.checked={model: m, method: verify}"]
    process = run.start(*given)
    durable = [0]
    for victim in ("EngineCore", VICTIMS["driver"]):
        durable.append(run.wait_for_some(process, durable[-1] + BATCH // 2))
        (one,) = processes_of(cluster.folder, victim)
        kill(one)
    assert finish(process).code != 0
    check_nothing_left(cluster.folder)
    done = finish(run.start(*given))
    assert done.code == 0, done.err
    check_nothing_left(cluster.folder)
    rows = {(row["task_id"], bool(row["turns"])): row for row in run.answers()}
    stored = [row for file in (run.out / "questions").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert len(run.answers()) == len(rows) == 2 * len(stored) == 2 * REAL_QUESTIONS, "lost or doubled"
    engine, several, differ = TransformersEngine(model), 0, []
    for row in stored:
        for voter in (DirectVoter(model="m"), VerifyVoter(model="m", method="verify")):
            case = MethodInput(question_from(row))
            expected = asyncio.run(METHODS[voter.method].run(engine, spec_of(voter, "weights", None), case))
            found = rows[row["task_id"], voter.method == "verify"]
            several += len(expected.turns) > 2
            if not is_close(expected):
                assert_same(found, expected)
            elif found["letter"] != expected.letter:
                differ.append(row["task_id"])
    print(f"\n{durable[1:]} of {len(rows)} durable at the kills, {several} have a second answer, close ones: {differ}")
    assert several > 10, "no conversation had a second answer: this round shows nothing"


def is_close(found: MethodResult) -> bool:
    """Tell whether rounding alone may change an answer: letters are near each other, or a check is near its limit."""
    best_two = [sorted(reading.logprobs)[-2:] for reading in found.readings if len(reading.logprobs) > 1]
    checks = [turn.p_true for turn in found.turns if turn.p_true is not None]
    nearest: float = min([*(best - next_ for next_, best in best_two), *(abs(p - 0.5) for p in checks)])
    return nearest < CLOSE


def assert_same(found: dict[str, Any], expected: MethodResult) -> None:
    """An answer's letter, turns and readings are those that are expected."""
    assert found["letter"] == expected.letter
    assert [(turn["kind"], turn["letter"]) for turn in found["turns"]] == [
        (turn.kind, turn.letter) for turn in expected.turns
    ]
    for turn, one in zip(found["turns"], expected.turns, strict=True):
        assert turn["p_true"] == (None if one.p_true is None else pytest.approx(one.p_true, abs=CLOSE))
    for reading, other in zip(found["readings"], expected.readings, strict=True):
        assert reading["logprobs"] == pytest.approx(other.logprobs, abs=CLOSE)
