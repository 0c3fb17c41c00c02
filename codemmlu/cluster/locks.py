"""The lock that gives a run directory to one job at a time, and the check that every node sees the directory."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codemmlu.cluster.session import here, join
from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir


class _Holder:
    """An actor whose name is the lock: one run holds it, and it ends with the driver of that run."""


@contextmanager
def lock(run: RunDir) -> Iterator[None]:
    """Hold the lock of a run directory that has an address instead of a path, by a name in the cluster.

    Jobs of two clusters do not see each other.

    Args:
        run: The run directory to lock.

    Yields:
        Nothing.

    Raises:
        UserError: Another job of this cluster holds the lock.
    """
    join()
    # The name is a hash, as every user of the cluster sees the names of actors and an address may carry keys.
    name = f"run {hashlib.sha256(run.address.encode()).hexdigest()}"
    try:
        kept = ray.remote(_Holder).options(name=name, namespace="codemmlu", num_cpus=0, scheduling_strategy=here())
        holder = kept.remote()
    except ValueError:
        raise UserError(
            f"another run is writing to {run.shown}; wait for it, stop it, or give another `{run.key}`", key=run.key
        ) from None
    try:
        yield
    finally:
        ray.kill(holder)


def unshared(run: RunDir, node: str) -> UserError:
    """Return the error for a run directory that a node does not see."""
    return UserError(
        f"{run.shown} is not the same directory on every node ({node} does not see it); "
        "give a shared path or an s3:// or gs:// address",
        key=run.key,
    )


def refuse_unshared(run: RunDir) -> None:
    """Refuse a run directory that some node does not see, by a probe on every node of several."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 or not run.is_local:
        return
    run.write(".shared", b"")
    seen = [
        ray.remote(os.path.exists)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(run.path(".shared"))
        for node in nodes
    ]
    blind = [node["NodeManagerAddress"] for node, task in zip(nodes, seen, strict=True) if not _true_or_gone(task)]
    if blind:
        raise unshared(run, blind[0])


def _true_or_gone(task: Any) -> bool:
    """Return the result of a task on a node, or True where the node died."""
    # Ray lists a dead node for some seconds more, but nothing will run there.
    try:
        return bool(ray.get(task))
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError):
        return True
