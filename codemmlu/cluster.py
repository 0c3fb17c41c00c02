"""Ray: joining the cluster that is there or starting one here, and what it has."""

import logging
import os

import ray

from codemmlu.engine.placement import Resources
from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir


def join() -> Resources:
    """Joins the running cluster, or starts one on this machine that ends with this process. Loopback only."""
    # Workers' own output stays in Ray's log files; what people must know comes back as rows and errors.
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False, "ignore_reinit_error": True}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **quiet)
    total = ray.cluster_resources()
    kinds = [name.removeprefix("accelerator_type:") for name in total if name.startswith("accelerator_type:")]
    return Resources(int(total.get("GPU", 0)), kinds[0] if len(kinds) == 1 else None, int(total.get("CPU", 1)))


def refuse_unshared(run: RunDir) -> None:
    """On several nodes, a probe proves that every one of them sees the run directory."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2 or not run.is_local:
        return
    run.write(".shared", b"")
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    seen = [
        ray.remote(os.path.exists)
        .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
        .remote(run.path(".shared"))
        for node in nodes
    ]
    blind = [node["NodeManagerAddress"] for node, sees in zip(nodes, ray.get(seen), strict=True) if not sees]
    if blind:
        raise UserError(
            f"out: {run.address} is not the same directory on every node ({blind[0]} does not see it); "
            "give a shared path or an s3:// or gs:// address"
        )
