"""GPUs on several nodes, held together by Ray for one engine: a placement group that lives as long as its actor.

An engine that fits one node needs none. Ray lets a group of a killed actor stand until the whole job ends: the actor
that replaces it bears the same id, finds the group by it, and removes it first.
"""

import contextlib

import ray
from ray.util.placement_group import PlacementGroup, get_placement_group, placement_group, remove_placement_group

from codemmlu.errors import UserError


def hold(devices: int, kind: str | None = None, seconds: float = 1800) -> PlacementGroup:
    """One bundle for each GPU, near each other. Called in an actor. Raises UserError when they do not become free.

    kind: Ray's name of their kind; seconds: nodes that are started for it take ten minutes and more
    """
    name = f"engine-{ray.get_runtime_context().get_actor_id()}"
    with contextlib.suppress(ValueError):  # there is none: this actor has not been here before
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
    """Gives the GPUs back."""
    remove_placement_group(group)
