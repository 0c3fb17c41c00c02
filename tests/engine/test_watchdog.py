"""The watchdog, with real processes and a real SIGKILL."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from codemmlu.engine import watchdog
from tests.support.processes import ends, is_alive

# A worker: it starts the watchdog, then a child that starts a grandchild, as vLLM's engine core starts its workers.
# The sibling was there before the mark was set.
WORKER = """
import subprocess, sys
from codemmlu.engine import watchdog

sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
tree = [sys.executable, "-c",
    "import subprocess, sys, time;"
    "print(subprocess.Popen(sys.argv[1:], start_new_session=True).pid, flush=True);"
    "time.sleep(600)", *sleep]

sibling = subprocess.Popen(sleep, start_new_session=True, stdout=subprocess.DEVNULL)
watchdog.start(sys.argv[1])
child = subprocess.Popen(tree, stdout=subprocess.PIPE, text=True)
print(sibling.pid, child.pid, int(child.stdout.readline()), flush=True)
if input() == "close":
    child.kill()
"""


@dataclass
class Worker:
    """A running worker and what it started."""

    process: subprocess.Popen[str]
    mark: str
    sibling: int
    child: int
    grandchild: int

    def watchdogs(self) -> list[int]:
        """The processes that wait for this worker."""
        said = [str(self.process.pid), self.mark]
        return [pid for pid, command in commands() if command[-2:] == said]


def commands() -> Iterator[tuple[int, list[str]]]:
    """Every process of this machine with its command line."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                yield int(name), stream.read().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something that other processes do."""
    last = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < last, "it does not come"
        time.sleep(0.02)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker with child, grandchild, watchdog and a sibling that is none of the watchdog's business."""
    mark = f"test-{uuid.uuid4().hex}"
    command = [sys.executable, "-c", WORKER, mark]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    sibling, child, grandchild = map(int, process.stdout.readline().split())
    wait_until(lambda: len(watchdog.marked(mark)) == 2)  # one that has only just been forked bears no mark yet
    yield Worker(process, mark, sibling, child, grandchild)
    for pid in (process.pid, sibling, child, grandchild):
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_what_a_killed_worker_had_started_is_killed(worker: Worker) -> None:
    assert set(watchdog.marked(worker.mark)) == {worker.child, worker.grandchild}
    (guard,) = worker.watchdogs()
    worker.process.kill()
    assert ends(worker.child)
    assert ends(worker.grandchild)
    assert ends(guard)
    assert is_alive(worker.sibling)
    assert watchdog.marked(worker.mark) == []


def test_a_worker_that_ends_by_itself_is_tidied_up_too(worker: Worker) -> None:
    (guard,) = worker.watchdogs()
    assert worker.process.stdin
    worker.process.stdin.write("close\n")
    worker.process.stdin.flush()
    assert worker.process.wait(60) == 0
    assert ends(worker.grandchild)
    assert ends(guard)
    assert is_alive(worker.sibling)


def test_while_the_worker_lives_nothing_is_killed(worker: Worker) -> None:
    (guard,) = worker.watchdogs()
    wait_until(lambda: waits_for_a_process(guard))
    assert all(map(is_alive, (worker.process.pid, worker.child, worker.grandchild, guard)))


def waits_for_a_process(pid: int) -> bool:
    """Tell whether a process holds a handle of another one and sleeps."""
    try:
        handles = [os.readlink(handle) for handle in Path(f"/proc/{pid}/fd").iterdir()]
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:  # a file that was closed meanwhile
        return False
    return state == "S" and any("pidfd" in handle for handle in handles)


def test_a_mark_is_found_by_how_it_begins(worker: Worker) -> None:
    assert set(watchdog.marked(worker.mark[:-4])) == {worker.child, worker.grandchild}
    assert watchdog.marked(worker.mark[1:]) == []
    assert watchdog.marked(worker.mark + "0") == []


class Clock:
    """A clock on which sleeping takes no time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_engines_that_go_on_are_waited_for_only_so_long(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    watchdog.wait_until_closed(worker.mark, seconds=20)
    assert 120 <= clock.now < 121
    assert is_alive(worker.child)


def test_a_driver_waits_for_engines_that_are_closing(worker: Worker) -> None:
    worker.process.kill()
    watchdog.wait_until_closed(worker.mark)
    assert not is_alive(worker.child)


def test_a_worker_that_is_gone_already_is_no_trouble() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    mark = f"test-{uuid.uuid4().hex}"
    environment = {**os.environ, watchdog.MARK: mark}
    orphan = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=environment)
    watchdog.main(gone.pid, mark)
    assert orphan.wait(60) == -signal.SIGKILL


SHARING = """
import multiprocessing.shared_memory, sys, time
from codemmlu.engine import watchdog

watchdog.start(sys.argv[1])
print(multiprocessing.shared_memory.SharedMemory(create=True, size=4096).name, flush=True)
time.sleep(600)
"""


def test_shared_memory_of_a_killed_worker_does_not_stay() -> None:
    mark = uuid.uuid4().hex
    worker = subprocess.Popen([sys.executable, "-c", SHARING, mark], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    file = f"/dev/shm/{worker.stdout.readline().strip()}"
    assert os.path.exists(file)
    worker.kill()
    worker.wait()
    wait_until(lambda: not os.path.exists(file) and not watchdog.marked(mark))
