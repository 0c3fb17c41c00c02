"""Ray for tests: one in this process for the whole session, and head nodes where they are what is tested."""

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

RAY = str(Path(sys.executable).with_name("ray"))
# What the Ray of this process sets for itself. Other clusters have other tokens, and may have several nodes.
OWN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")


def plain_environment() -> dict[str, str]:
    """Return this process's environment without what its own Ray has set there."""
    return {name: value for name, value in os.environ.items() if name not in OWN}


# As after `source .venv/bin/activate`: a submitted job's `python` is the one that the head node finds first.
ACTIVATED = {**plain_environment(), "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}"}
# A node that is asked to end waits half a minute for work that may still come to it.
ACTIVATED["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
# Ray's log monitor reads the files of every worker there ever was, again and again; no test looks at what it finds.
QUIET = ("--include-dashboard=false", "--include-log-monitor=false")
LOOPBACK = {**ACTIVATED, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@contextmanager
def ray_in_this_process(cpus: int = 2, gpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a Ray that jobs in this process use, and yield the environment in which other processes join it.

    Its GPUs are numbers only: recipes with `gpus=` place engines on them, and the CPU build of vLLM ignores them.
    """
    import ray

    from codemmlu.cluster import session

    session.start_here(num_cpus=cpus, num_gpus=gpus, logging_level=logging.ERROR, log_to_driver=False)
    try:
        own = {name: os.environ[name] for name in OWN if name in os.environ}
        yield {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, **own}
    finally:
        ray.shutdown()


def node(*options: str, environment: Mapping[str, str]) -> "psutil.Popen":
    """Run `ray start` and return once it is up; its own processes end with it, and no others."""
    command = [RAY, "start", "--block", *options]
    with tempfile.TemporaryFile("w+") as output:
        started = psutil.Popen(command, env=dict(environment), stdout=output, stderr=subprocess.STDOUT)
        for _ in range(3000):  # A busy machine takes minutes.
            output.seek(0)
            if "now block forever" in output.read():  # after it has written down where it is, for jobs to find
                break
            assert started.poll() is None, f"ray start ended: {output.seek(0)}{output.read()}"
            time.sleep(0.1)
        else:
            started.kill()
            raise AssertionError(f"ray start goes on and on: {output.seek(0)}{output.read()}")
    return started


@contextmanager
def head_node(*options: str, environment: Mapping[str, str] = {}) -> Iterator[None]:
    """Run `ray start --head` on loopback, which jobs find by themselves."""
    head = node(
        "--head",
        "--port=0",
        "--node-ip-address=127.0.0.1",
        "--num-cpus=2",
        "--dashboard-agent-listen-port=0",
        *options,
        environment={**LOOPBACK, **environment},
    )
    yield
    head.terminate()
    head.wait(timeout=60)
