"""Runs Python programs one after the other, each in a fork of its own; started with `python -I -S python_driver.py`.

Standard input: a JSON object with `sources`, `seconds` of a core's time for each program, `most` characters of output,
`setup` (code that may define `execute(source)` in place of `exec`) and `filter` (a seccomp filter in hexadecimal
digits, under which each program runs; empty: the surroundings are the sandbox). Standard output: a JSON list of
[output, name of the exception or null].
"""

import bisect  # noqa: F401 - the modules that programs may import stand here, as a filtered program opens no file
import collections  # noqa: F401
import contextlib
import copy  # noqa: F401
import ctypes
import functools  # noqa: F401
import heapq  # noqa: F401
import io
import itertools  # noqa: F401
import json
import math  # noqa: F401
import os
import random  # noqa: F401
import re  # noqa: F401
import resource
import select
import signal
import string  # noqa: F401
import sys
import time
import typing  # noqa: F401
from typing import Any

_GRACE = 12.0  # times the seconds of a core, in wall time, before a program is killed: a machine may be busy
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER_MODE = 4, 38, 22, 2
_NOBODY = 65534


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))


def confine(steps: bytes) -> None:
    """Put this process, for good, under a seccomp filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(steps, len(steps))
    program = _Filter(len(steps) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(_PR_SET_SECCOMP, _FILTER_MODE, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def drop_privileges() -> None:
    """Become "nobody" where the driver is root, and start no process or thread from here on."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # Without the capability there is less to lose.
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _late(*_: object) -> None:
    raise TimeoutError


def child(source: str, job: dict[str, Any], pipe: int) -> None:
    """Run one program, write its result to a pipe and end."""
    error, out = None, io.StringIO()
    execute = job["execute"]
    try:
        nothing = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        os.dup2(pipe, 3)
        os.closerange(4, 256)
        signal.signal(signal.SIGVTALRM, _late)
        resource.setrlimit(resource.RLIMIT_CPU, (int(job["seconds"]) + 1, int(job["seconds"]) + 2))
        drop_privileges()
        if job["filter"]:
            confine(bytes.fromhex(job["filter"]))
        signal.setitimer(signal.ITIMER_VIRTUAL, job["seconds"])
        with contextlib.redirect_stdout(out):
            execute(source)
    except BaseException as caught:  # Whatever a program raises is its result.
        error = type(caught).__name__
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    result = json.dumps([out.getvalue()[: job["most"]], error]).encode()
    while result:
        result = result[os.write(3, result) :]
    os._exit(0)


def run(source: str, job: dict[str, Any]) -> list[Any]:
    """Run one program in a fork, and return its result."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(source, job, writing)
        finally:
            os._exit(1)
    os.close(writing)
    result, ends = b"", time.monotonic() + 4 + job["seconds"] * _GRACE
    while (left := ends - time.monotonic()) > 0 and len(result) < 8 * job["most"] + 1000:
        if not select.select([reading], [], [], left)[0]:
            break
        chunk = os.read(reading, 65_536)
        if not chunk:
            break
        result += chunk
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        printed, error = json.loads(result)
        return [str(printed)[: job["most"]], None if error is None else str(error)]
    except (ValueError, TypeError, RecursionError):
        return ["", "Killed"]


def _plain(source: str) -> None:
    exec(compile(source, "program", "exec"), {"__name__": "__main__"})


def main() -> None:
    """Read the job, run its programs, and write their results."""
    # No program may read or write the memory of the driver, which holds the results of the others.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    job = json.loads(sys.stdin.buffer.read())
    names: dict[str, Any] = {"execute": _plain}
    exec(compile(job["setup"], "setup", "exec"), names)
    job["execute"] = names["execute"]
    sys.setrecursionlimit(1000)
    sys.stdout.write(json.dumps([run(source, job) for source in job["sources"]]))


if __name__ == "__main__":
    main()
