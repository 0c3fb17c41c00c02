"""The Ray session: it joins the running cluster or starts a cluster on this machine, and reads its resources."""

import atexit
import logging
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
import ray.exceptions
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codemmlu.cluster.environment import given_address, reach, started_here
from codemmlu.engine.placement.gpus import Node, Resources, grown, kind_of, kinds_here
from codemmlu.engine.placement.placement import built_for_cpu
from codemmlu.errors import UserError

# Seconds to wait until a cluster listens at a given address.
_PATIENCE = 10


def join(gpus: str | None = None) -> Resources:
    """Join the running cluster, or start a cluster on this machine that ends with this process.

    Args:
        gpus: The GPUs that the cluster may grow to, as in the recipe; None: the cluster does not grow.

    Returns:
        The GPUs and CPUs to plan with.

    Raises:
        UserError: RAY_ADDRESS names a cluster that does not answer.
    """
    if not ray.is_initialized():
        on_terminate = signal.getsignal(signal.SIGTERM)
        # The output of workers stays in Ray's log files; users learn what they must know from rows and errors.
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        if given := given_address():
            _join(given, quiet)
        elif found := started_here():
            maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # As Ray does itself for `auto`.
            _join(found, quiet)  # The address that answered: `auto` would look for one anew.
        elif os.environ.get("RAY_ADDRESS"):
            raise UserError(
                "RAY_ADDRESS: no Ray cluster answers at auto; start it with `ray start --head`, or unset it"
            )
        else:
            start_here(**quiet)
        signal.signal(signal.SIGTERM, on_terminate)  # Ray replaces the handler.
        atexit.register(_leave)
    alive = [node for node in ray.nodes() if node["Alive"]]
    cpus = int(sum(node["Resources"].get("CPU", 0) for node in alive))
    return grown(gpus, cpus) if gpus else Resources(() if built_for_cpu() else _nodes(alive), cpus)


def start_here(**options: Any) -> None:
    """Start a Ray on this machine, on loopback, that ends with this process.

    Args:
        **options: Passed on to ray.init.

    Raises:
        UserError: Ray did not start in two tries of 30 s each.
    """
    for tries_left in (1, 0):
        try:
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
            return
        except Exception as error:  # Ray 2.60 raises nothing narrower when a node takes more than 30 s.
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
            if not tries_left:
                raise UserError(
                    "Ray could not start on this machine within a minute, twice; try again when it is less busy, "
                    "or start it by hand with `ray start --head`"
                ) from None


def _leave() -> None:
    """End the Ray of this process, and hide what its C++ core writes on stderr about tasks that end."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    ray.shutdown()
    os.dup2(kept, 2)
    os.close(kept)
    os.close(nowhere)


def _nodes(alive: Iterable[Mapping[str, Any]]) -> tuple[Node, ...]:
    """Return the GPUs of the Ray nodes that have GPUs."""
    nodes = []
    for node in alive:
        resources = node["Resources"]
        kinds = [kind_of(name.partition(":")[2]) for name in resources if name.startswith("accelerator_type:")]
        kind = kinds[0] if len(kinds) == 1 else None
        if int(resources.get("GPU", 0)) >= 1:
            # Ray gives A100 GPUs of 40 and of 80 GB the same name; the driver tells them apart.
            kind = _driver_kind(node["NodeID"]) or kind if kind == "A100" else kind
            nodes.append(Node(int(resources["GPU"]), kind))
    return tuple(nodes)


def _driver_kind(node: str) -> str | None:
    """Return the kind of a node's GPUs according to the driver; None where it is unknown or mixed."""
    on_node = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        kinds = ray.get(ray.remote(kinds_here).options(num_cpus=0, scheduling_strategy=on_node).remote(), timeout=60)
    except ray.exceptions.RayError:  # The node is busy, or has just gone.
        return None
    return kinds[0] if len(set(kinds)) == 1 else None


def _join(address: str, quiet: dict[str, Any]) -> None:
    """Join the cluster at an address, and refuse an address where no usable cluster answers."""
    try:
        if re.fullmatch(r"[^:/]+:\d+", address):
            _wait_for(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:  # no cluster, another version of Ray, another kind of address
        why = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise UserError(f"RAY_ADDRESS: no Ray cluster answers at {address} ({why}); start it, or unset it") from None


def _wait_for(address: str) -> None:
    """Wait until a cluster listens at an address, for at most `_PATIENCE` seconds."""
    # A head that has only just been started may need some seconds, but Ray would wait minutes for a head that is gone.
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            return reach(address)
        except (OSError, ValueError):
            if time.monotonic() > last:
                raise
            time.sleep(0.5)


def here() -> Any:
    """Return the strategy that places an actor on the node of this process."""
    # For an actor that has to live as long as this process: any other node may leave during a run.
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
