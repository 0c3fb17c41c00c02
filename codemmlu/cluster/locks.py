"""A run directory belongs to one job at a time, and every node must see it."""

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
    """Held by one run; it ends with that run's driver."""


@contextmanager
def lock(run: RunDir) -> Iterator[None]:
    """Holds a run directory that has an address instead of a path, by a name in the cluster.

    Raises UserError when another job of this cluster holds it. Jobs of two clusters do not see each other.
    """
    join()
    # A hash: everybody in the cluster sees names of actors, and an address may carry keys.
    name = f"run {hashlib.sha256(run.address.encode()).hexdigest()}"
    try:
        kept = ray.remote(_Holder).options(name=name, namespace="codemmlu", num_cpus=0, scheduling_strategy=here())
        holder = kept.remote()
    except ValueError:
        raise UserError(
            f"out: another run is writing to {run.shown}; wait for it, stop it, or give another `out`"
        ) from None
    try:
        yield
    finally:
        ray.kill(holder)


def unshared(run: RunDir, node: str) -> UserError:
    """The mistake of a run directory that a node does not see."""
    return UserError(
        f"out: {run.shown} is not the same directory on every node ({node} does not see it); "
        "give a shared path or an s3:// or gs:// address"
    )


def refuse_unshared(run: RunDir) -> None:
    """On several nodes, a probe proves that every one of them sees the run directory."""
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
    blind = [node["NodeManagerAddress"] for node, one in zip(nodes, seen, strict=True) if not _true_or_gone(one)]
    if blind:
        raise unshared(run, blind[0])


def _true_or_gone(told: Any) -> bool:
    """What a node tells; True of one that died and is listed for some seconds more, as nothing will run there."""
    try:
        return bool(ray.get(told))
    except (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError):
        return True
