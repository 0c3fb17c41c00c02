"""Sharing: the engines of several models on one cluster at once, where it has room for one of each. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from codemmlu.engine.placement.gpus import Resources
from codemmlu.engine.placement.placement import Placement


@dataclass
class _Free:
    """What a node has left."""

    kind: str | None
    gpus: int


def allocate(wanted: Mapping[str, Placement], resources: Resources) -> dict[str, Placement] | None:
    """How many engines each pool gets when all of them run at once; None: one after another.

    Each is given the least it asks for, the widest engines first; what is left goes to the model with the most weight
    on each of its engines, for it has the most to compute. On the CPU an engine takes all cores: one after another.
    Pools without an engine are in nobody's way.
    """
    without = {name: one for name, one in wanted.items() if not one.arguments}
    wanted = {name: one for name, one in wanted.items() if one.arguments}
    if len(wanted) < 2 or any(not one.gpus_each or one.spans for one in wanted.values()):
        return None
    free = [_Free(node.gpu, node.gpus) for node in resources.nodes]
    counts: dict[str, int] = {}
    for name, one in sorted(wanted.items(), key=lambda item: -item[1].gpus_each):
        for _ in range(one.least):
            if not _take(free, one):
                return None
        counts[name] = one.least
    hungry = dict(wanted)
    while hungry:
        name = max(hungry, key=lambda name: (_weight(hungry[name]) / counts[name], name))
        if counts[name] < hungry[name].at_most and _take(free, hungry[name]):
            counts[name] += 1
        else:
            del hungry[name]
    # A pool that grows still begins with the least.
    grows = resources.elastic
    shares = {
        name: replace(one, replicas=min(one.replicas, counts[name]) if grows else counts[name], most=counts[name])
        for name, one in wanted.items()
    }
    return without | shares


def _take(free: list[_Free], one: Placement) -> bool:
    """Gives one engine its GPUs, on the node that has the fewest left over."""
    feasible_layouts = [node for node in free if node.gpus >= one.gpus_each and one.kind in (None, node.kind)]
    if not feasible_layouts:
        return False
    min(feasible_layouts, key=lambda node: node.gpus).gpus -= one.gpus_each
    return True


def _weight(one: Placement) -> float:
    return one.memory.weights * one.gpus_each if one.memory else 1.0
