"""Work on the cluster: tasks and their errors, Ray Data's own output, and several pieces of work at once."""

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

from codemmlu.errors import EngineDied, UserError


def reason(error: Exception) -> Exception:
    """What to tell the person: a mistake of theirs that a worker found, or why the engines are gone.

    Of an error in an actor Ray brings back the traceback as text, and its type only there.
    """
    said = str(error)
    if mistake := re.search(rf"{UserError.__module__}\.{UserError.__name__}: (.+)", said):
        return UserError(mistake[1])
    if died := re.search(rf"{EngineDied.__module__}\.{EngineDied.__name__}: (.+)", said):
        return EngineDied(f"the run stopped: {died[1]}")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    why = next((line for line in lines if "Worker exit detail" in line or "OutOfMemory" in line), None)
    return EngineDied(f"the run stopped: {why or (lines[-1] if lines else type(error).__name__)}")


def call(task: Callable[..., Any], *arguments: Any) -> Any:
    """What a function gives back as a task of Ray's, on a core of its own. Raises as `reason` tells."""
    (result,) = results([ray.remote(task).remote(*arguments)])
    return result


def results(tasks: list[Any]) -> list[Any]:
    """What tasks give back, in their order. Raises as `reason` tells."""
    try:
        found: list[Any] = ray.get(tasks)
    except ray.exceptions.RayError as error:
        raise reason(error) from error
    return found


def quiet() -> None:
    """Ray Data's own progress and plan descriptions: ours says the same for people."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_consecutive_actor_init_deaths = 0
    # A pool is full when every actor has as many blocks under way as it takes: none waits within an actor, and so the
    # share that Ray wants to see before it adds an actor (1.75 of that) would never come.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 0.9
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it logs as an error also reaches us as one


@contextmanager
def without_actor_warning() -> Iterator[None]:
    """Keeps one line of Ray's C++ core off stderr.

    For every actor pool that may restart its actors Ray 2.60 prints an alarm about lost constructor arguments. They
    are held by this process for as long as the pool lives. Nothing in Python can turn the line off.
    """
    kept, (source, sink) = os.dup(2), os.pipe()
    os.dup2(sink, 2)
    os.close(sink)

    def copy() -> None:
        with os.fdopen(source, "rb", buffering=0) as lines, os.fdopen(kept, "wb", buffering=0, closefd=False) as out:
            while chunk := lines.read(2**16):
                out.write(
                    b"".join(x for x in chunk.splitlines(True) if b"constructor arguments in the object" not in x)
                )

    copier = threading.Thread(target=copy, daemon=True)
    copier.start()
    try:
        yield
    finally:
        os.dup2(kept, 2)
        copier.join(timeout=0.5)  # a child that inherited the pipe may hold it open: then the thread ends with us
        if not copier.is_alive():
            os.close(kept)


def together(tasks: Sequence[Callable[[], None]]) -> None:
    """Runs all tasks at once. The first error, or Ctrl-C, is this process's end, and so the others' too.

    Nothing can be awaited of a thread that waits for a cluster which is gone: they are left to end with the process.
    """
    told: SimpleQueue[BaseException | None] = SimpleQueue()

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:  # to be raised where people wait for it
            told.put(error)
        else:
            told.put(None)

    for task in tasks:
        threading.Thread(target=run, args=(task,), daemon=True).start()
    for _ in tasks:
        if error := told.get():
            raise error
