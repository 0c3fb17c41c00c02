"""Multi-node engines: a Ray placement group holds GPUs of several nodes as long as the actor lives.

An engine that fits on one node needs no group. Ray keeps the group of a killed actor until the whole job ends, so the
actor that replaces it removes the old group first. It finds the group by the actor id, which both actors share.
"""

import contextlib

import ray
from ray.util.placement_group import PlacementGroup, get_placement_group, placement_group, remove_placement_group

from codemmlu.errors import UserError


def hold(devices: int, kind: str | None = None, seconds: float = 1800) -> PlacementGroup:
    """Reserve GPUs for the engine of the current actor, in one bundle each, on as few nodes as possible.

    Args:
        devices: The number of GPUs.
        kind: Ray's name of the kind of GPU; None: any.
        seconds: How long to wait. Nodes that are started for the engine take ten minutes and more.

    Returns:
        The placement group, whose GPUs are reserved.

    Raises:
        UserError: The GPUs did not become free in time.
    """
    name = f"engine-{ray.get_runtime_context().get_actor_id()}"
    with contextlib.suppress(ValueError):  # There is no group unless an earlier process of this actor was killed.
        remove_placement_group(get_placement_group(name))
    of_kind = {f"accelerator_type:{kind}": 0.001} if kind else {}
    bundles: list[dict[str, float]] = [{"GPU": 1.0, **of_kind}] * devices
    group = placement_group(bundles, strategy="PACK", name=name)
    if not group.wait(timeout_seconds=seconds):
        remove_placement_group(group)
        raise UserError(
            f"an engine of {devices} GPUs waited {seconds:,.0f} s for them; lower replicas, or end other jobs"
        )
    return group


def release(group: PlacementGroup) -> None:
    """Release the GPUs of a placement group."""
    remove_placement_group(group)
