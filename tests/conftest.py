"""Fast tests first: what needs a real engine runs after all else. And one Ray cluster for the jobs that tests start."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

LOOPBACK = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
RAY = str(Path(sys.executable).with_name("ray"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the files' order, and moves engine tests behind the rest."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is not None)


@pytest.fixture(scope="session")
def running_ray() -> Iterator[None]:
    """A cluster on loopback, which jobs find by themselves: joining it is quicker than starting one each."""
    start = f"{RAY} start --head --node-ip-address=127.0.0.1 --port=26379 --num-cpus=2 --include-dashboard=false"
    subprocess.run(start.split(), check=True, capture_output=True, env=LOOPBACK)
    yield
    subprocess.run([RAY, "stop", "--force"], check=True, capture_output=True)
