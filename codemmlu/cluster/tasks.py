"""Work on the cluster: tasks and the errors of tasks, the output of Ray Data, and several pieces of work at once."""

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import ray
import ray.data
import ray.exceptions

from codemmlu.errors import EngineDied, UserError, is_disk_full

_MOST_OF_A_LINE = 160  # characters of a line of Ray's C++ core


def reason(error: Exception) -> Exception:
    """Return the error to show: a user's mistake that a worker found, or the reason why the engines died.

    For an error in an actor, Ray returns only the traceback as text, which has the type of the error in it.

    Args:
        error: The error that Ray raised.

    Returns:
        A UserError or an EngineDied.
    """
    text = str(error)
    if mistake := re.search(r"codemmlu\.[\w.]+\.(?:UserError|DamagedError): (.+)", text):
        return UserError(mistake[1])
    if died := re.search(rf"{EngineDied.__module__}\.{EngineDied.__name__}: (.+)", text):
        return EngineDied(f"the run stopped: {died[1]}")
    if is_disk_full(text):
        line = next(line.strip() for line in text.splitlines() if is_disk_full(line))
        return UserError(f"out: the disk is full: {line}; make room, or give another `out`")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    why = next((line for line in lines if "Worker exit detail" in line or "OutOfMemory" in line), None)
    return EngineDied(f"the run stopped: {why or (lines[-1] if lines else type(error).__name__)}")


def call(task: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a function, run as a Ray task on a core; `reason` explains an error."""
    (result,) = results([ray.remote(task).remote(*arguments)])
    return result


def results(tasks: list[Any]) -> list[Any]:
    """Return the results of Ray tasks, in the order of the tasks; `reason` explains an error."""
    try:
        values: list[Any] = ray.get(tasks)
    except ray.exceptions.RayError as error:
        raise reason(error) from error
    return values


def quiet() -> None:
    """Turn off the progress bars and plan descriptions of Ray Data, as this project prints its own."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = 0
    # A pool is full when every actor has as many blocks in flight as it takes. No block waits within an actor, so the
    # load at which Ray adds an actor by default (1.75 of a full pool) would never be reached.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.9
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # A logged error is also raised.


@contextmanager
def without_actor_warning() -> Iterator[None]:
    """Keep one line of Ray's C++ core off stderr, and cut its other lines.

    For every actor pool that may restart its actors, Ray 2.60 prints an alarm about lost constructor arguments. The
    alarm is false, as this process holds the arguments as long as the pool lives. Python cannot turn the line off.
    Other alarms, such as that of a disk which is nearly full, have 900 characters, and come every ten seconds.

    Yields:
        Nothing.
    """
    kept, (source, sink) = os.dup(2), os.pipe()
    os.dup2(sink, 2)
    os.close(sink)

    def copy() -> None:
        with os.fdopen(source, "rb", buffering=0) as lines, os.fdopen(kept, "wb", buffering=0, closefd=False) as out:
            while chunk := lines.read(2**16):
                out.write(b"".join(map(_shortened, chunk.splitlines(True))))

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        copier.join(timeout=0.5)  # A child may hold the inherited pipe open; then the thread ends with this process.
        if not copier.is_alive():
            os.close(kept)


def _shortened(line: bytes) -> bytes:
    """Return a line of stderr: without the false alarm, and the first part of any other line of Ray's core."""
    if b"constructor arguments in the object" in line:
        return b""
    if len(line) > _MOST_OF_A_LINE and re.match(rb"\(raylet|\[\d{4}-\d\d-\d\d [\d:,]+ [IWEC] ", line):
        return line[:_MOST_OF_A_LINE] + b"... (in Ray's logs)\n"
    return line


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Run all tasks at once in threads, and raise the first error.

    The other threads are not joined, as a thread may wait forever for a cluster that is gone: they end with this
    process, which the first error or Ctrl-C has to end.
    """
    errors: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # The waiting thread below raises the error.
            errors.put(error)
        else:
            errors.put(None)

    for task in tasks:
        threading.Thread(target=run, args=(task,), daemon=True).start()
    for _ in tasks:
        if error := errors.get():
            raise error
