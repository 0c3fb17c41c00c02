"""Fast tests first: what needs a real engine runs after all else. And one Ray cluster for the jobs that tests start."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import psutil
import pytest

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")

# Where the tests' clusters keep their things, and where jobs look for one: none of this machine's is joined, and none
# is found by tests that run beside these. Short: a socket's path has no room for pytest's folders.
FOLDER = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
os.environ["RAY_TMPDIR"] = FOLDER
os.environ.pop("RAY_ADDRESS", None)

RAY = str(Path(sys.executable).with_name("ray"))
# As after `source .venv/bin/activate`: a submitted job's `python` is the one that the head node finds first.
ACTIVATED = {**os.environ, "PATH": f"{Path(RAY).parent}:{os.environ['PATH']}"}
# A node that is told to end waits half a minute for what may still come to it.
ACTIVATED["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = "0"
# Ray's log monitor reads the files of every worker there ever was, again and again; no test looks at what it finds.
QUIET = ("--include-dashboard=false", "--include-log-monitor=false")
LOOPBACK = {**ACTIVATED, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Leaves nothing of the tests' clusters, once they have ended."""
    shutil.rmtree(FOLDER, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the files' order, and moves engine tests behind the rest.

    Those of deploy/ look into Ray's own code, and Ray decides when it is imported where it listens: after all that join
    one in this process.
    """

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return item.get_closest_marker("engine") is not None, item.path.parent.name == "deploy"

    items.sort(key=place)


def node(*options: str, environment: Mapping[str, str]) -> "psutil.Popen":
    """`ray start`, once it runs; its own processes end with it, nobody else's."""
    command = [RAY, "start", "--block", *options]
    with tempfile.TemporaryFile("w+") as said:
        started = psutil.Popen(command, env=dict(environment), stdout=said, stderr=subprocess.STDOUT)
        for _ in range(600):
            said.seek(0)
            if "now block forever" in said.read():  # after it has written down where it is, for jobs to find
                break
            assert started.poll() is None, f"ray start ended: {said.seek(0)}{said.read()}"
            time.sleep(0.1)
        else:
            started.kill()
            raise AssertionError(f"ray start goes on and on: {said.seek(0)}{said.read()}")
    return started


@contextmanager
def head_node(*options: str, environment: Mapping[str, str] = {}) -> Iterator[None]:
    """`ray start --head` on loopback, which jobs find by themselves."""
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


@pytest.fixture(scope="session")
def running_ray() -> Iterator[None]:
    """A cluster for the jobs of all tests: joining it is quicker than starting one each."""
    with head_node(*QUIET):
        yield
