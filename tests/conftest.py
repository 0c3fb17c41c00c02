"""Fast tests first: what needs a real engine runs after all else. And one Ray cluster for the jobs that tests start."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

RAY = str(Path(sys.executable).with_name("ray"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keeps the files' order, and moves engine tests behind the rest."""
    items.sort(key=lambda item: item.get_closest_marker("engine") is not None)


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A cluster of this machine's own, on loopback: joining it is quicker than starting one for every job."""
    address = "127.0.0.1:26379"
    start = f"{RAY} start --head --node-ip-address=127.0.0.1 --port=26379 --num-cpus=2 --include-dashboard=false"
    subprocess.run(start.split(), check=True, capture_output=True)
    yield address
    subprocess.run([RAY, "stop", "--force"], check=True, capture_output=True)
