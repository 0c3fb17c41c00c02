"""A cluster that grows, by Ray's own autoscaler with nodes that are processes on this machine: GPUs come when engines
wait for them, and a pool takes them."""

import json
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import finish, kill
from tests.support.ray import ACTIVATED, QUIET, node
from tests.support.runs import ScriptedRun

pytestmark = pytest.mark.soak

HOST = "127.0.0.2"  # loopback; of 127.0.0.1 Ray makes an outer address where several nodes are allowed
MOST = 2
SOME = 32  # questions of which each engine has to be asked
GROWS = ("gpus=2x1xL4", "models.m.max_num_seqs=8")
# What Ray's autoscaler wants to find, however empty.
_LISTS = (
    "cluster_synced_files",
    "head_setup_commands",
    "head_start_ray_commands",
    "initialization_commands",
    "rsync_exclude",
    "rsync_filter",
    "setup_commands",
    "worker_setup_commands",
    "worker_start_ray_commands",
)


@pytest.fixture
def growing() -> Iterator[dict[str, str]]:
    """The environment of jobs that find a head without GPUs, which may start two nodes with an L4 each."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="grow-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        kinds = {
            "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "gpu": {
                "resources": {"CPU": 1, "GPU": 1, "object_store_memory": 10**8},
                "node_config": {},
                "min_workers": 0,
                "max_workers": MOST,
            },
        }
        config = {
            "cluster_name": "growing",
            "max_workers": MOST,
            "idle_timeout_minutes": 1,
            "provider": {"type": "fake_multinode", "gcs_address": f"{HOST}:{port}", "use_node_id_as_ip": True},
            "available_node_types": kinds,
            "head_node_type": "ray.head.default",
            "upscaling_speed": 1.0,
            "file_mounts_sync_continuously": False,
            **{name: [] for name in _LISTS},
            **{name: {} for name in ("auth", "docker", "file_mounts")},
        }
        written = Path(folder, "autoscaling.yaml")
        written.write_text(json.dumps(config))
        environment = {
            **ACTIVATED,
            "RAY_TMPDIR": folder,
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        options = ["--head", f"--port={port}", f"--node-ip-address={HOST}", "--num-cpus=2", "--num-gpus=0"]
        options += ["--object-store-memory=100000000", *QUIET, f"--autoscaling-config={written}"]
        head = node(*options, environment=environment)
        try:
            yield environment
        finally:
            head.terminate()
            head.wait(timeout=60)
            for process in psutil.process_iter():  # nodes that the autoscaler started outlive the head
                try:
                    if process.environ().get("RAY_TMPDIR") == folder:
                        process.kill()
                except psutil.Error:
                    continue


def test_a_pool_takes_the_gpus_that_come(growing: dict[str, str], tmp_path: Path) -> None:
    """Once both engines are asked the job is killed: it would go on only to end. The next one answers what is left."""
    run = ScriptedRun(tmp_path, 2400, {"seconds": 4.0}, growing)  # a busy machine starts nodes slowly
    began = time.monotonic()
    process = run.start(*GROWS)
    while min(asked := [counts.total() for counts in run.by_engine().values()], default=0) < SOME or len(asked) < MOST:
        assert process.poll() is None, f"the pool began with one engine and did not grow: {finish(process)}"
        time.sleep(0.5)
    kill(process)
    finish(process)
    print(f"\n{time.monotonic() - began:.0f} s until both engines were at work, asked of each: {asked}")
    assert len(asked) == MOST
    run.script = {}
    done = finish(run.start(*GROWS))
    assert done.code == 0, done.err
    assert "answers are here already" in done.out
    assert sorted(run.durable()) == sorted(f"q{i}" for i in range(run.questions)), "lost or doubled"
