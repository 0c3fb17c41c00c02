"""Chaos on two raylets: faults at random moments, and what is there after the job is re-issued.

    CHAOS_ROUNDS=100 CHAOS_SEED=7 pytest -s tests/soak/test_chaos.py

The faults are killed processes, a disk that is full for a while, and a file of the run that is damaged between two
starts. A round counts when at the fault at least one answer is durable and one is missing; else it is repeated.
"""

import asyncio
import os
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from codemmlu.engine.scripted import CORE_PROCESS
from codemmlu.inference.methods import METHODS, MethodInput, MethodResult
from codemmlu.recipe import DirectVoter, VerifyVoter
from codemmlu.schema import question_from
from tests.support.disturbed_runs import (
    QUESTIONS,
    SCRIPT,
    check_finished,
    check_nothing_left,
    damage_one,
    full_disk,
    small_disk,
)
from tests.support.processes import Run, finish, kill
from tests.support.raylets import Raylets, processes_of, two_raylets
from tests.support.rows import spec_of
from tests.support.runs import ScriptedRun
from tests.support.tiny_model import tiny_model
from tests.support.transformers_engine import CLOSE, TransformersEngine

pytestmark = [pytest.mark.soak, pytest.mark.xdist_group("raylets")]

VICTIMS = {"engine": CORE_PROCESS, "worker": "BlockWorker", "raylet": "raylet/raylet", "driver": "jobs/answer.py"}
FULL, DAMAGED = "full disk", "damaged file"
KINDS = (*VICTIMS, FULL, DAMAGED)
# As many as there are kinds: each happens once.
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", str(len(KINDS))))
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


@dataclass(frozen=True)
class Round:
    """What a round came to.

    kind: The fault.
    durable: The answers that were stored at the fault.
    twice: The questions that were asked twice.
    issues: How often the job was started.
    """

    kind: str
    durable: int
    twice: int
    issues: int


def test_faults_at_random_moments(cluster: Raylets, tmp_path: Path) -> None:
    draw, rounds = random.Random(SEED), list[Round]()
    with small_disk(tmp_path / "probe") as is_mounted:
        kinds = [kind for kind in KINDS if is_mounted or kind != FULL]
    order = [kind for _ in range(-(-ROUNDS // len(kinds))) for kind in draw.sample(kinds, len(kinds))]
    try:
        for number, kind in enumerate(order[:ROUNDS]):
            for attempt in range(5):
                result = one_round(cluster, tmp_path / f"{number}-{attempt}", kind, draw)
                if 1 <= result.durable < QUESTIONS:
                    rounds.append(result)
                    break
    finally:
        show(rounds)
    assert len(rounds) == ROUNDS, "a round that does not count shows nothing"


def show(rounds: Sequence[Round]) -> None:
    """Print the table of kinds."""
    print(f"\nseed {SEED}: {len(rounds)} of {ROUNDS} rounds counted, none lost, doubled or changed an answer")
    print(f"{'kind':14}{'rounds':>7}{'durable':>12}{'asked twice':>14}{'starts':>9}")
    for kind in KINDS:
        of_kind = [one for one in rounds if one.kind == kind]
        columns = ([getattr(one, name) for one in of_kind] for name in ("durable", "twice", "issues"))
        spans = [f"{min(column)} to {max(column)}" if column else "-" for column in columns]
        print(f"{kind:14}{len(of_kind):>7}{spans[0]:>12}{spans[1]:>14}{spans[2]:>9}")


def one_round(cluster: Raylets, folder: Path, kind: str, draw: random.Random) -> Round:
    """Start a run, disturb it, start it again until it is done, and check what it came to."""
    with ExitStack() as stack:
        if kind == FULL:
            assert stack.enter_context(small_disk(folder / "disk"))
        place = folder / "disk" if kind == FULL else folder
        run = ScriptedRun(place, QUESTIONS, SCRIPT, cluster.environment, log_folder=folder)
        process = start(run)
        run.wait_for_some(process, draw.randint(1, QUESTIONS // 2))
        time.sleep(draw.uniform(0, 0.5))
        durable = len(run.durable())
        last, note, lost = disturb(cluster, run, process, kind, draw)
        issues = 1
        while last.code and issues < 4:
            last, issues = finish(start(run)), issues + 1
        assert last.code == 0, (note, last.err)
        twice = check_finished(cluster.folder, run)
        print(f"\n{kind}{note}: {durable} durable at the fault, {twice} asked twice, {issues} starts", end="")
        assert twice <= ENGINES * 2 * BATCH + lost, "more was asked twice than can be in flight"
        return Round(kind, durable, twice, issues)


def disturb(
    cluster: Raylets, run: ScriptedRun, process: "psutil.Popen", kind: str, draw: random.Random
) -> tuple[Run, str, int]:
    """Do something to a run, and wait until its job has ended.

    Returns:
        What the job came to, a note on what was done, and how many stored answers that took.
    """
    if kind == FULL:
        with full_disk(run.folder):
            done = finish(process)
        assert done.code in (0, 2), done.err
        assert done.code == 0 or "the disk is full" in done.err, done.err
        return done, "", 0
    if kind == "raylet":
        cluster.kill_second()
    else:
        name = VICTIMS.get(kind, "")
        kill(process if kind in ("driver", DAMAGED) else draw.choice(processes_of(cluster.folder, name)))
    done = finish(process)
    if kind == "raylet":
        cluster.replace_second()
    if kind != DAMAGED:
        return done, "", 0
    check_nothing_left(cluster.folder)
    note, lost = damage_one(run.out, draw)
    return done, f" ({note})", lost


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
