"""The watchdog: a process that ends the engine processes of a worker that died without closing them.

A worker that is killed (SIGKILL, out of memory, a raylet that goes away) cannot close its engine, and vLLM's processes
would go on holding memory or a GPU. The watchdog runs as a small process beside the worker: it waits for the worker's
end, then kills every process that carries the worker's mark in its environment. Linux only, like the engine.

    python watchdog.py PID MARK
"""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "CODEMMLU_ENGINE_OWNER"


def start(mark: str) -> None:
    """Start a watchdog before this process starts an engine, and set the mark that its children inherit."""
    clean = {name: value for name, value in os.environ.items() if name != MARK}
    subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), mark],
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and the end of the job's process group must not end the watchdog.
    )
    os.environ[MARK] = mark


def marked(mark: str) -> list[int]:
    """Return the ids of this machine's processes that carry a mark, or a mark that begins with it."""
    pids = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if f"\0{MARK}={mark}".encode() in b"\0" + (process / "environ").read_bytes():
                pids.append(int(process.name))
        except OSError:  # The process has ended meanwhile, or belongs to another user.
            continue
    return pids


def wait_until_closed(mark: str, seconds: float = 20) -> None:
    """Wait for engines of this machine that close by themselves; an end before that looks like a crash."""
    end = time.monotonic() + seconds
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.1)


def _wait_for_end_of(pid: int) -> None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([handle], [], [])


def main(pid: int, mark: str, tries: int = 20) -> None:
    """Wait for a process to end, then kill the processes that carry its mark until there are none.

    Python's resource trackers are killed last: they end by themselves after the processes that they track resources
    for, and remove the shared memory that those processes left.

    Args:
        pid: The worker's process id.
        mark: The worker's mark.
        tries: How often to look for processes, every 0.1 seconds; the last time, resource trackers are killed too.
    """
    _wait_for_end_of(pid)
    for left in reversed(range(tries)):
        processes = marked(mark)
        if not processes:
            return
        for process in processes:
            try:
                if left and b"resource_tracker" in Path(f"/proc/{process}/cmdline").read_bytes():
                    continue
                os.kill(process, signal.SIGKILL)
            except (ProcessLookupError, FileNotFoundError):
                continue
        time.sleep(0.1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
