"""The watchdog, with real processes and a real SIGKILL."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from codemmlu.engine import watchdog
from tests.processes import ends, lives

# A worker: it starts the watchdog, then a child that starts a grandchild, as vLLM's engine core starts its workers.
# The sibling was there before the mark was set.
WORKER = """
import subprocess, sys, time
from codemmlu.engine import watchdog

sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
tree = [sys.executable, "-c",
    "import subprocess, sys, time;"
    "print(subprocess.Popen(sys.argv[1:], start_new_session=True).pid, flush=True);"
    "time.sleep(600)", *sleep]

sibling = subprocess.Popen(sleep, start_new_session=True)
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


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker with child, grandchild, watchdog and a sibling that is none of the watchdog's business."""
    mark = f"test-{uuid.uuid4().hex}"
    command = [sys.executable, "-c", WORKER, mark]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    sibling, child, grandchild = map(int, process.stdout.readline().split())
    yield Worker(process, mark, sibling, child, grandchild)
    for pid in (process.pid, sibling, child, grandchild):
        if lives(pid):
            os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_what_a_killed_worker_had_started_is_killed(worker: Worker) -> None:
    last = time.monotonic() + 60  # a process that has only just been forked bears no mark yet
    while len(watchdog.marked(worker.mark)) < 2 and time.monotonic() < last:
        time.sleep(0.02)
    assert set(watchdog.marked(worker.mark)) == {worker.child, worker.grandchild}
    (guard,) = worker.watchdogs()
    worker.process.kill()
    assert ends(worker.child)
    assert ends(worker.grandchild)
    assert ends(guard)
    assert lives(worker.sibling)
    assert watchdog.marked(worker.mark) == []


def test_a_worker_that_ends_by_itself_is_tidied_up_too(worker: Worker) -> None:
    (guard,) = worker.watchdogs()
    assert worker.process.stdin
    worker.process.stdin.write("close\n")
    worker.process.stdin.flush()
    assert worker.process.wait(60) == 0
    assert ends(worker.grandchild)
    assert ends(guard)
    assert lives(worker.sibling)


def test_while_the_worker_lives_nothing_is_killed(worker: Worker) -> None:
    time.sleep(0.3)
    assert all(map(lives, (worker.process.pid, worker.child, worker.grandchild, *worker.watchdogs())))


def test_a_mark_is_found_by_how_it_begins(worker: Worker) -> None:
    assert set(watchdog.marked(worker.mark[:-4])) == {worker.child, worker.grandchild}
    assert watchdog.marked(worker.mark[1:]) == []
    assert watchdog.marked(worker.mark + "0") == []


def test_a_driver_waits_for_engines_that_close_by_themselves_but_not_for_ever(worker: Worker) -> None:
    began = time.monotonic()
    watchdog.wait_until_closed(worker.mark, seconds=0.3)
    assert time.monotonic() - began >= 0.3
    assert lives(worker.child)
    worker.process.kill()
    watchdog.wait_until_closed(worker.mark)
    assert not lives(worker.child)


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
    end = time.monotonic() + 60
    while (os.path.exists(file) or watchdog.marked(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not os.path.exists(file)
    assert not watchdog.marked(mark)
