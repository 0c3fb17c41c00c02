"""Ends the engine processes of a worker that died without closing them.

A worker that is killed (SIGKILL, out of memory, a raylet that goes away) cannot close its engine, and vLLM's processes
would go on holding memory or a GPU. Run as a small process beside the worker: it waits for the worker's end, then kills
every process that carries the worker's mark in its environment. Linux only, like the engine.

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
    """Watches this process; to be called before it starts an engine. Sets the mark that its children inherit."""
    clean = {name: value for name, value in os.environ.items() if name != MARK}
    subprocess.Popen(
        [sys.executable, __file__, str(os.getpid()), mark],
        env=clean,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C and the end of a job's process group are not for it
    )
    os.environ[MARK] = mark


def marked(mark: str) -> list[int]:
    """The processes of this machine that inherited a mark, or one that begins with it."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            if f"\0{MARK}={mark}".encode() in b"\0" + (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:  # ended meanwhile, or somebody else's
            continue
    return found


def wait_until_closed(mark: str, seconds: float = 20) -> None:
    """Waits for engines of this machine that are closing by themselves; an end before that looks like a crash."""
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
    """Waits for `pid` to end, then kills what carries the mark until nothing does.

    Python's resource trackers end once those have that they track things for, and remove what shared memory they left:
    they are killed last.
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
