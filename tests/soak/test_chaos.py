"""Chaos on two raylets: kills at random moments and storage that breaks, and what is there after the job is re-issued.

    CHAOS_ROUNDS=20 CHAOS_SEED=7 pytest -s tests/soak/test_chaos.py

A round counts when at the kill at least one answer is durable and one is missing; one that does not is repeated.
"""

import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from codemmlu.scoring import margin
from tests.raylets import Raylets, two_raylets
from tests.runs import CountedRun, Run, finish, kill
from tests.scripted import ENGINE_PROCESS
from tests.tiny import tiny_model

pytestmark = pytest.mark.soak

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "3"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
QUESTIONS = 600
ENGINES = 2
SCRIPT = {"right": {f"#q{i} ": f"that {i}" for i in range(0, QUESTIONS, 4)}, "process": True, "seconds": 0.5}
BATCH = 64  # questions that an engine has in flight
REAL_QUESTIONS = 400
CHOICES = 3  # of each question
OURS = ("BlockWorker", ENGINE_PROCESS, "EngineCore", "counted_job", "watchdog.py", "multiprocessing")
Verdicts = list[dict[str, Any]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    """Two raylets for all rounds."""
    with two_raylets() as cluster:
        yield cluster


def chaos(cluster: Raylets, folder: Path, questions: int = QUESTIONS) -> CountedRun:
    """A run of the scripted engine on the cluster."""
    return CountedRun(folder, questions, SCRIPT, cluster.environment)


def start(run: CountedRun) -> "psutil.Popen":
    """The run's job, which has just begun."""
    return run.start(f"models.m.replicas={ENGINES}")


def verdicts(run: CountedRun) -> Verdicts:
    """What the run came to."""
    rows: Verdicts = pq.read_table(run.out / "verdicts.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def undisturbed(cluster: Raylets, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """The verdicts of a run that nothing happened to."""
    run = chaos(cluster, tmp_path_factory.mktemp("undisturbed"))
    done = finish(start(run))
    assert done.code == 0, done.err
    return verdicts(run)


def kill_one(cluster: Raylets, victim: str, process: "psutil.Popen", rng: random.Random) -> None:
    """One of what there is of a kind."""
    if victim == "raylet":
        cluster.kill_second()
        return
    names = {"engine": ENGINE_PROCESS, "worker": "BlockWorker", "real engine": "EngineCore"}
    kill(process if victim == "driver" else rng.choice(cluster.processes(names[victim])))


def test_kills_at_random_moments(cluster: Raylets, undisturbed: Verdicts, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    deck = ["engine", "worker", "raylet", "driver"]
    counted: Counter[str] = Counter()
    order = [victim for _ in range(-(-ROUNDS // len(deck))) for victim in rng.sample(deck, len(deck))]
    for number, victim in enumerate(order[:ROUNDS]):
        for attempt in range(5):
            if one_round(cluster, undisturbed, tmp_path / f"{number}-{attempt}", victim, rng):
                counted[victim] += 1
                break
    print(f"\nseed {SEED}: {counted.total()} of {ROUNDS} rounds counted, none lost an answer: {dict(counted)}")
    assert counted.total() == ROUNDS, "a round that does not count shows nothing"


def one_round(cluster: Raylets, undisturbed: Verdicts, folder: Path, victim: str, rng: random.Random) -> bool:
    """Whether it counts; what is wrong raises."""
    run = chaos(cluster, folder)
    process = start(run)
    run.wait_for_some(process, rng.randint(1, QUESTIONS // 2))
    time.sleep(rng.uniform(0, 0.5))
    durable = len(run.durable())
    kill_one(cluster, victim, process, rng)
    first, issues = finish(process), 1
    if victim == "raylet":
        cluster.replace_second()
    last = first
    while last.code and issues < 3:
        last, issues = finish(start(run)), issues + 1
    assert last.code == 0, last.err
    twice = finished(cluster, run, undisturbed)
    print(f"\n{victim}: {durable} durable at the kill, {twice} asked twice, {issues} issues", end="")
    assert twice <= ENGINES * 2 * BATCH, "more was asked twice than can be in flight"
    return 1 <= durable < QUESTIONS


def finished(cluster: Raylets, run: CountedRun, undisturbed: Verdicts) -> int:
    """Every question has one answer and the verdict it has to have, and nothing is left; how many were asked twice."""
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(QUESTIONS)), "lost or doubled"
    assert verdicts(run) == undisturbed
    nothing_left(cluster)
    return sum(times > 1 for times in run.times_asked().values())


def nothing_left(cluster: Raylets, seconds: float = 60) -> None:
    """No process of a job and no placement group outlives it."""
    end = time.monotonic() + seconds
    while (left := [one for name in OURS for one in cluster.processes(name)]) and time.monotonic() < end:
        time.sleep(0.2)
    assert not left, "processes are left behind"
    assert not cluster.placement_groups(), "placement groups are left behind"


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Nothing more has room until it is over; for a folder that is a small disk of its own."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**12))
    yield
    filler.unlink()


@contextmanager
def denied(folder: Path) -> Iterator[None]:
    """Nothing can be made where answers are until it is over; not even by root."""
    answers = folder / "run" / "answers" / "m"
    subprocess.run(["chattr", "+i", str(answers)], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(answers)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("disks cannot be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize(
    ("breaks", "why"), [(full_disk, "No space left on device"), (denied, "Operation not permitted")]
)
def test_storage_that_breaks_once(
    cluster: Raylets, undisturbed: Verdicts, small_disk: Path, breaks: Callable[[Path], Any], why: str
) -> None:
    run = chaos(cluster, small_disk)
    process = start(run)
    durable = run.wait_for_some(process)
    with breaks(small_disk):
        first: Run = finish(process)
        kept = len(run.durable())
    assert first.code == 2, first.err
    assert first.err.count("\n") == 1, first.err
    assert f"error: out: {run.out}/" in first.err
    assert f"cannot be written: {why}" in first.err
    assert durable <= kept < QUESTIONS
    last = finish(start(run))
    assert last.code == 0, last.err
    assert f"{kept} answers are here already" in last.out
    twice = finished(cluster, run, undisturbed)
    print(f"\n{why}: {kept} durable when it stopped, {twice} asked twice")


def test_two_raylets_share_the_work(cluster: Raylets, tmp_path: Path) -> None:
    """An engine on each, and both have work to do."""
    took = {}
    for engines in (1, 2):
        run = chaos(cluster, tmp_path / str(engines), 960)
        process = run.start(f"models.m.replicas={engines}")
        run.wait_for_some(process)
        homes = [worker.ppid() for worker in cluster.processes("BlockWorker")]
        done = finish(process)
        assert done.code == 0, done.err
        assert len(set(homes)) == len(homes) == engines, "a raylet has more than one engine"
        shares = [counts.total() for counts in run.by_engine().values()]
        rows = run.answers()
        took[engines] = max(row["started"] + row["seconds"] for row in rows) - min(row["started"] for row in rows)
        print(f"\n{engines} engines: {len(rows) / took[engines]:.1f} questions/s, balance {shares}", end="")
    # Two engines seldom start in the same second: how much quicker they are is printed, not promised.
    assert min(shares) > 0.3 * sum(shares), "one engine does most of the work"
    assert took[2] < took[1]


@dataclass(frozen=True)
class Undisturbed:
    """Verdicts of the real engine that nothing happened to, by task_id. noise: see `furthest`."""

    verdicts: dict[str, dict[str, Any]]
    noise: float
    model: Path

    def run(self, folder: Path, cluster: Raylets) -> CountedRun:
        """A run of the same model and questions."""
        return CountedRun(folder, REAL_QUESTIONS, "vllm", cluster.environment)

    def overrides(self, batch: int = BATCH) -> list[str]:
        """Of all its runs: one voter asks once, one in turns."""
        model = [f"models.m.source={self.model}", "models.m.cpu_kv_cache_gib=1", f"models.m.max_num_seqs={batch}"]
        return [*model, "voters.checked={model: m, method: verify}"]


@pytest.fixture(scope="module")
def real(cluster: Raylets, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What a kill changes is what is asked together, and so the last digits: the noise is that of other batches."""
    folder = tmp_path_factory.mktemp("real")
    plain = Undisturbed({}, 0.0, tiny_model(folder / "tiny"))
    found = []
    for batch in (BATCH, BATCH // 8):
        run = plain.run(folder / str(batch), cluster)
        done = run.run(*plain.overrides(batch))
        assert done.code == 0, done.err
        found.append({row["task_id"]: row for row in verdicts(run)})
    return replace(plain, verdicts=found[0], noise=furthest(*found))


def test_a_real_engine_comes_to_the_same_verdicts(cluster: Raylets, real: Undisturbed, tmp_path: Path) -> None:
    """Where it is close a letter hangs on the noise; everywhere else nothing is lost, doubled, cut short or changed.

    Its engine's process is killed, then the worker that has another, then the driver, each while answers come in.
    """
    run = real.run(tmp_path, cluster)
    process = run.start(*real.overrides())
    durable = [0]
    for victim in ("real engine", "worker", "driver"):
        durable.append(run.wait_for_some(process, durable[-1] + BATCH))
        kill_one(cluster, victim, process, random.Random(SEED))
    assert finish(process).code != 0
    nothing_left(cluster)
    done = run.run(*real.overrides())
    assert done.code == 0, done.err
    nothing_left(cluster)
    rows = run.answers()
    assert sorted(row["task_id"] for row in rows) == sorted([*real.verdicts, *real.verdicts]), "lost or doubled"
    turned = sum(is_whole(row["turns"]) for row in rows if row["turns"])
    its = {row["task_id"]: row for row in verdicts(run)}
    clear = [name for name, row in real.verdicts.items() if margin(row["probabilities"]) > 2 * real.noise]
    differ = [name for name, row in real.verdicts.items() if row["letter"] != its[name]["letter"]]
    print(
        f"\n{durable[1:]} of {2 * REAL_QUESTIONS} durable at the kills of engine, worker and driver, {turned} "
        "conversations of more than one answer; a probability differs by up to "
        f"{real.noise:.2g} between two undisturbed runs and by {furthest(real.verdicts, its):.2g} after the kills; "
        f"{len(clear)} are clear, {len(differ)} differ"
    )
    assert turned, "no conversation had a second answer: this round shows nothing"
    assert clear
    assert not set(clear) & set(differ)


def is_whole(turns: list[dict[str, Any]]) -> bool:
    """Whether a conversation has a second answer. Raises where it does not end as `verify` ends: at a check that says
    TRUE, or at the last of three choices."""
    kinds = [turn["kind"] for turn in turns]
    assert kinds == (["answer", "check"] * CHOICES)[: len(kinds)], "a turn is missing"
    satisfied = kinds[-1] == "check" and turns[-1]["p_true"] >= 0.5
    assert satisfied or kinds.count("answer") == CHOICES, "it stops too early"
    return len(kinds) > 2


def furthest(one: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> float:
    """The largest difference of a choice's probability between two runs' verdicts."""
    pairs = ((one[name]["probabilities"], other[name]["probabilities"]) for name in one)
    return max(abs(float(p) - float(q)) for these, those in pairs for p, q in zip(these, those, strict=True))
