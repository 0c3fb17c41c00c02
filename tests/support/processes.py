"""Processes: what they said, which live, and how they end."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Run:
    """What a command came to."""

    code: int
    out: str
    err: str


def finish(process: "psutil.Popen") -> Run:
    """Wait for a process and take what it printed."""
    out, err = process.communicate(timeout=600)
    return Run(process.returncode, out, err)


def is_alive(pid: int) -> bool:
    """Tell whether a process is there, and does not merely wait for its parent to notice its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(pid: int, seconds: float = 60) -> bool:
    """Wait for a process to end, and tell whether it did."""
    last = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > last:
            return False
        time.sleep(0.02)
    return True


def descendants(process: "psutil.Process | psutil.Popen") -> list[psutil.Process]:
    """Return every process below one, by parents alone: psutil compares start times too, which shift with the clock."""
    children_of: dict[int, list[psutil.Process]] = {}
    for process_ in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):
            children_of.setdefault(process_.ppid(), []).append(process_)
    below, waiting = [], [process.pid]
    while waiting:
        children = children_of.get(waiting.pop(), [])
        below += children
        waiting += [child.pid for child in children]
    return below


def named(processes: list[psutil.Process], name: str) -> list[psutil.Process]:
    """Return those that have `name` in their name or command line."""
    return list(_named(processes, name))


def _named(processes: list[psutil.Process], name: str) -> Iterator[psutil.Process]:
    for process in processes:
        try:
            if name in process.name() or any(name in part for part in process.cmdline()):
                yield process
        except psutil.NoSuchProcess:
            continue


def kill(process: "psutil.Process | psutil.Popen") -> None:
    """Kill a process without warning, as the kernel does when memory runs out."""
    os.kill(process.pid, signal.SIGKILL)
