"""Allocation: the GPUs of a cluster, shared among the pools of several models at once. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from codemmlu.engine.placement.gpus import Device, Resources
from codemmlu.engine.placement.placement import Holds, Placement


@dataclass
class _FreeNode:
    """The unallocated GPUs of one node."""

    kind: str | None
    gpus: int


def allocate(placements: Mapping[str, Placement], resources: Resources) -> dict[str, Placement] | None:
    """Divide the GPUs among pools of engines that are to run at the same time.

    Every pool first gets its minimum of engines, the pools with the most GPUs per engine first. Each GPU that is left
    then goes to the pool with the most weights per engine, because that pool has the most to compute. An engine on the
    CPU takes all cores, so it runs alone. Pools without an engine are not counted and stay as they are.

    Args:
        placements: The placement of each pool as if it had the cluster for itself.
        resources: The cluster.

    Returns:
        The placements with the number of engines that each pool gets; None where the pools have to run one after
        another: fewer than two have an engine, an engine runs on the CPU or spans nodes, or the minimum does not fit.
    """
    without_engine = {name: pool for name, pool in placements.items() if pool.holds is not Holds.ENGINE}
    with_engine = {name: pool for name, pool in placements.items() if pool.holds is Holds.ENGINE}
    if len(with_engine) < 2 or any(pool.device is Device.CPU or pool.spans for pool in with_engine.values()):
        return None
    nodes = [_FreeNode(node.gpu, node.gpus) for node in resources.nodes]
    counts: dict[str, int] = {}
    for name, pool in sorted(with_engine.items(), key=lambda item: -item[1].gpus_each):
        for _ in range(pool.least):
            if not _take(nodes, pool):
                return None
        counts[name] = pool.least
    growing = dict(with_engine)
    while growing:
        name = max(growing, key=lambda name: (_weight(growing[name]) / counts[name], name))
        if counts[name] < growing[name].at_most and _take(nodes, growing[name]):
            counts[name] += 1
        else:
            del growing[name]
    # A pool on an elastic cluster still starts with the few engines that it would start with alone.
    elastic = resources.elastic
    shares = {
        name: replace(pool, replicas=min(pool.replicas, counts[name]) if elastic else counts[name], most=counts[name])
        for name, pool in with_engine.items()
    }
    return without_engine | shares


def _take(nodes: list[_FreeNode], pool: Placement) -> bool:
    """Reserve the GPUs of one engine on the node with the fewest free; return whether a node has enough."""
    candidates = [node for node in nodes if node.gpus >= pool.gpus_each and pool.kind in (None, node.kind)]
    if not candidates:
        return False
    min(candidates, key=lambda node: node.gpus).gpus -= pool.gpus_each
    return True


def _weight(pool: Placement) -> float:
    return pool.memory.weights * pool.gpus_each if pool.memory else 1.0
