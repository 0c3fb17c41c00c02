"""The Ray session: it joins the running cluster or starts a cluster on this machine, and reads its resources."""

import atexit
import logging
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import ray
import ray.exceptions
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from codemmlu.cluster.environment import given_address, is_ray, reach, started_here, wanted_address
from codemmlu.engine.placement.gpus import Node, Resources, grown, kind_of, kinds_here
from codemmlu.engine.placement.placement import built_for_cpu
from codemmlu.errors import UserError

# Seconds to wait until a cluster listens at a given address.
_PATIENCE = 10
# The most characters of a folder, of the 107 that the kernel allows for a socket: Ray adds
# ray/session_2026-11-28_06-57-17_123456_1234567/sockets/plasma_store.
_MOST_FOLDER = 107 - 68


def join(gpus: str | None = None) -> Resources:
    """Join the running cluster, or start a cluster on this machine that ends with this process.

    Args:
        gpus: The GPUs that the cluster may grow to, as in the recipe; None: the cluster does not grow.

    Returns:
        The GPUs and CPUs to plan with.

    Raises:
        UserError: There is no cluster where RAY_ADDRESS says, or none can be started.
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
        elif wanted_address() == "auto":
            # Ray would look through all processes, and wait minutes for the Ray of another job.
            raise UserError(
                "RAY_ADDRESS: no Ray cluster answers at auto: the head that `ray start` left on this machine is gone, "
                "or there was none; start it with `ray start --head`, or unset RAY_ADDRESS"
            )
        else:
            refuse_long_folder(os.environ.get("RAY_TMPDIR", "/tmp"))
            start_here(**quiet)
        signal.signal(signal.SIGTERM, on_terminate)  # Ray replaces the handler.
        atexit.register(_leave)
    alive = [node for node in ray.nodes() if node["Alive"]]
    cpus = int(sum(node["Resources"].get("CPU", 0) for node in alive))
    return grown(gpus, cpus) if gpus else Resources(() if built_for_cpu() else _nodes(alive), cpus)


def refuse_long_folder(folder: str) -> None:
    """Refuse a folder for Ray's files that cannot be made, or below which the paths of its sockets are too long.

    Raises:
        UserError: Ray cannot keep its files there.
    """
    if len(os.fsencode(folder)) > _MOST_FOLDER:
        raise UserError(
            f"RAY_TMPDIR: {folder} has {len(os.fsencode(folder))} characters, and Ray's sockets leave room for "
            f"{_MOST_FOLDER}; give a shorter one"
        )
    try:
        os.makedirs(os.path.join(folder, "ray"), exist_ok=True)
        reason = None if os.access(os.path.join(folder, "ray"), os.W_OK) else "it may not be written"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise UserError(f"RAY_TMPDIR: {folder} cannot be used for Ray's files: {reason}; give another folder")


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
            # Under WSL2 Ray finds no kind at all.
            kind = _driver_kind(node["NodeID"]) or kind if kind in ("A100", None) else kind
            nodes.append(Node(int(resources["GPU"]), kind))
    return tuple(nodes)


@cache
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
    if address.startswith("ray://"):
        raise UserError(
            f"RAY_ADDRESS: {address} is for Ray's client, which this command cannot use; submit it to the cluster (ray "
            "job submit --address http://HEAD:8265), or run it on one of its nodes with RAY_ADDRESS=HEAD:6379"
        )
    if address != "auto" and not _is_host_and_port(address):
        raise UserError(
            f"RAY_ADDRESS: {address} is no address of a Ray head: that is HOST:PORT or [IPv6]:PORT, as `ray start` "
            "prints it, or `auto`, or `local`"
        )
    try:
        if address != "auto":
            _wait_for(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError) as error:  # no cluster, another version of Ray, another kind of address
        if versions := re.findall(r"^\s*(Ray|Python): (\S+)", str(error), re.MULTILINE):
            raise UserError(_other_versions(address, versions)) from None
        why = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise UserError(f"RAY_ADDRESS: no Ray cluster answers at {address} ({why}); start it, or unset it") from None


def _is_host_and_port(address: str) -> bool:
    """Tell whether an address has a form that can be tried; of any other one, Ray would wait for minutes."""
    match = re.fullmatch(r"(\[[\da-fA-F:.%\w]+\]|[\w.-]+):(\d{1,5})", address)
    return match is not None and 0 < int(match[2]) < 2**16


def _other_versions(address: str, versions: list[tuple[str, str]]) -> str:
    """Return the error message for a cluster of other versions: those of the cluster come first, then ours."""
    half = len(versions) // 2
    parts = (versions[:half], versions[half:])
    theirs, ours = (" with ".join(f"{name} {version}" for name, version in part) for part in parts)
    return f"RAY_ADDRESS: the cluster at {address} runs {theirs}, and this is {ours}; install the same versions here"


def _wait_for(address: str) -> None:
    """Wait until a cluster listens at an address, for at most `_PATIENCE` seconds."""
    # A head that has only just been started may need some seconds, but Ray would wait minutes for a head that is gone.
    last = time.monotonic() + _PATIENCE
    while True:
        try:
            reach(address)
            if not is_ray(address, may_be_busy=True):
                raise ConnectionError("something else than Ray answers there")
            return
        except (OSError, ValueError):
            if time.monotonic() > last:
                raise
            time.sleep(0.5)


def cores_here() -> int | None:
    """Return the CPU cores that Ray counts on the node of this process; None where it counts none."""
    this = ray.get_runtime_context().get_node_id()
    counts = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["NodeID"] == this]
    return int(counts[0]) or None if counts else None


def logs_folder() -> str:
    """Return the folder of the logs of Ray's workers, which each node keeps at the same place."""
    return os.path.join(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "session_latest", "logs")


def here() -> Any:
    """Return the strategy that places an actor on the node of this process."""
    # For an actor that has to live as long as this process: any other node may leave during a run.
    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
