"""Supervision of one sandboxed command: its pipes, its wall clock, its memory, and its certain end."""

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from codemmlu.sandbox.protocol import Limits

_POLL = 0.1  # seconds between two looks at the memory
_FIRST_LOOK = 0.2  # seconds before the first look: most programs have ended by then
_CHUNK = 65_536
_OWN = 4  # processes of the sandbox itself
_ENTRIES = 20_000  # files in memory: empty ones take memory of the kernel alone
_IN_MEMORY = ("tmp", "dev/shm")
# Where the machine's memory runs out, the kernel ends the sandbox first.
_FIRST_TO_GO = ["/bin/sh", "-c", 'echo 1000 2>/dev/null >/proc/self/oom_score_adj; exec "$@"', "sh"]


@dataclass(frozen=True)
class Ended:
    """The end of a command.

    Attributes:
        code: The exit code; negative: a signal; None: a limit ended the command.
        limit: The limit that ended the command: timeout, memory or output; empty where none did.
    """

    code: int | None
    limit: str
    printed: bytes
    errors: bytes
    seconds: float


def supervise(
    command: Sequence[str],
    limits: Limits,
    stdin: bytes = b"",
    fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command to its end or to the first limit that it reaches.

    Args:
        command: The command, which starts the sandbox; killing it has to end everything in the sandbox.
        limits: The limits.
        stdin: What the command may read.
        fds: Descriptors that the command inherits.
        environment: The command's environment; None: an empty one.

    Returns:
        How the command ended.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [*_FIRST_TO_GO, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=fds,
        env=dict(environment or {}),
        cwd="/",
        start_new_session=True,
        process_group=None,
    )
    try:
        feeder = threading.Thread(target=_feed, args=(process, stdin), daemon=True)
        feeder.start()
        streams, limit = _read(process, limits, began)
    finally:
        _kill(process)
    code = process.returncode
    return Ended(None if limit else code, limit, *streams, time.monotonic() - began)


def _feed(process: "subprocess.Popen[bytes]", stdin: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # The command may end, or never read, before it is given everything.
        process.stdin.write(stdin)
    with contextlib.suppress(OSError):
        process.stdin.close()


def _read(process: "subprocess.Popen[bytes]", limits: Limits, began: float) -> tuple[tuple[bytes, bytes], str]:
    """Read both outputs until they end or a limit is reached; return them and the name of the limit."""
    assert process.stdout is not None
    assert process.stderr is not None
    streams = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    limit, next_look = "", began + _FIRST_LOOK
    with selectors.DefaultSelector() as selector:
        for descriptor in streams:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map() and not limit:
            for key, _ in selector.select(_POLL):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fd)
                streams[key.fd] += chunk
            now = time.monotonic()
            if now - began > limits.seconds:
                limit = "timeout"
            elif any(len(stream) > limits.output for stream in streams.values()):
                limit = "output"
            elif now >= next_look:
                next_look = now + _POLL
                limit = "memory" if _is_over(process.pid, limits) else ""
        # Both outputs may be closed while the command goes on.
        while not limit and process.poll() is None:
            if time.monotonic() - began > limits.seconds:
                limit = "timeout"
            elif _is_over(process.pid, limits):
                limit = "memory"
            time.sleep(0.005)
    printed, errors = (bytes(stream[: limits.output]) for stream in streams.values())
    return (printed, errors), limit


def _is_over(pid: int, limits: Limits) -> bool:
    """Tell whether the descendants of a process hold more memory than they may, or are too many."""
    # The kernel's own limit on processes does not hold everywhere: it never stops a user that is root on the host.
    total = count = 0
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            count += 1
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
            if _entries(process.pid) > _ENTRIES:
                return True
    return total > limits.memory * 2**20 or count > limits.processes + _OWN


def _entries(pid: int) -> int:
    """Return how many files in memory there are in the root of a process; 0 where it has the root of this one."""
    root, found = f"/proc/{pid}/root", 0
    with contextlib.suppress(OSError):
        if not os.path.samefile(root, "/"):
            usage = [os.statvfs(f"{root}/{name}") for name in _IN_MEMORY]
            found = sum(own.f_files - own.f_ffree for own in usage)
    return found


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End the command and its session, whatever they are doing, and close the pipes."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
