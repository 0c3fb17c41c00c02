"""A cluster of several raylets on this machine, which the jobs of one test find and nobody else's do."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.conftest import ACTIVATED, QUIET, node
from tests.runs import descendants, named

# Loopback too. Where several nodes are allowed Ray takes 127.0.0.1 for an outer address; this one it leaves alone.
_HOST = "--node-ip-address=127.0.0.2"
_CPUS = 2  # logical ones, of each raylet
_LIVING_GROUPS = """
import json, ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
groups = ray.util.placement_group_table().values()
print(json.dumps([group["placement_group_id"] for group in groups if group["state"] != "REMOVED"]))
"""


class Raylets:
    """A head and a second raylet. environment: of jobs that are to find it."""

    def __init__(self, folder: Path) -> None:
        self.environment = {**ACTIVATED, "RAY_TMPDIR": str(folder)}
        self._options = [_HOST, f"--num-cpus={_CPUS}", "--dashboard-agent-listen-port=0"]
        self._options += ["--object-store-memory=150000000"]
        head = ["--head", "--port=0", *QUIET]
        self.head = node(*head, *self._options, environment=self.environment)
        self._address = (folder / "ray" / "ray_current_cluster").read_text().strip()
        self.second = self._join()

    def _join(self) -> "psutil.Popen":
        return node(f"--address={self._address}", *self._options, environment=self.environment)

    def kill_second(self) -> None:
        """The second raylet is killed; what it had started ends by itself."""
        (raylet,) = named(descendants(self.second), "raylet/raylet")
        raylet.kill()

    def replace_second(self) -> None:
        """Another raylet in the place of one that was killed."""
        self.second.wait(timeout=60)
        self.second = self._join()

    def processes(self, name: str) -> list[psutil.Process]:
        """All of this cluster and its jobs that have `name` in their command line, whoever their parents are now."""
        return [process for process in named(self._all(), name) if process.is_running()]

    def kinds(self) -> Counter[str]:
        """How many processes of each kind there are; workers that wait for work are Ray's to keep."""
        found: Counter[str] = Counter()
        for process in self._all():
            with suppress(psutil.NoSuchProcess, IndexError):
                words = process.cmdline()
                script = next((word for word in words[1:] if word.endswith(".py")), words[0])
                found[script.rpartition("/")[2]] += 1
        return Counter({kind: count for kind, count in found.items() if "IDLE" not in kind})

    def _all(self) -> list[psutil.Process]:
        ours = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("RAY_TMPDIR") == self.environment["RAY_TMPDIR"]:
                    ours.append(process)
        return ours

    def placement_groups(self) -> list[str]:
        """Those that are not removed."""
        command = [sys.executable, "-c", _LIVING_GROUPS]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=True)
        groups: list[str] = json.loads(done.stdout.splitlines()[-1])
        return groups


@contextmanager
def two_raylets() -> Iterator[Raylets]:
    """Two raylets of two logical CPUs each."""
    with tempfile.TemporaryDirectory(prefix="two-", dir="/tmp", ignore_cleanup_errors=True) as folder:  # short: sockets
        cluster = Raylets(Path(folder))
        try:
            yield cluster
        finally:
            for one in (cluster.second, cluster.head):
                one.terminate()
                one.wait(timeout=60)
            end = time.monotonic() + 60
            while cluster.kinds() and time.monotonic() < end:
                time.sleep(0.2)
            assert not cluster.kinds(), "processes outlive the cluster"
