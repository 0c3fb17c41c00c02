"""A cluster of several raylets on this machine, which the jobs of one test find and nobody else's do."""

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.processes import descendants, named
from tests.support.ray import ACTIVATED, QUIET, node

# Loopback too. Where several nodes are allowed Ray takes 127.0.0.1 for an outer address; this one it leaves alone.
_HOST = "--node-ip-address=127.0.0.2"
_CPUS = 2  # logical ones, of each raylet


def processes_of(folder: str, name: str = "") -> list[psutil.Process]:
    """Return all processes of the Ray that keeps its things in a folder, and of its jobs, whoever their parents are.

    Args:
        folder: RAY_TMPDIR of that Ray.
        name: What they have in their name or command line.
    """
    ours = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("RAY_TMPDIR") == folder:
                ours.append(process)
    return [process for process in named(ours, name) if process.is_running()]


class Raylets:
    """A head and a second raylet. environment: of jobs that are to find it."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.environment = {**ACTIVATED, "RAY_TMPDIR": self.folder}
        self._options = [_HOST, f"--num-cpus={_CPUS}", "--dashboard-agent-listen-port=0"]
        self._options += ["--object-store-memory=150000000"]
        head = ["--head", "--port=0", *QUIET]
        self.head = node(*head, *self._options, environment=self.environment)
        self._address = (folder / "ray" / "ray_current_cluster").read_text().strip()
        try:
            self.second = self._join()
        except BaseException:
            self.head.terminate()
            raise

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

    def kinds(self) -> Counter[str]:
        """How many processes of each kind there are; workers that wait for work are Ray's to keep."""
        found: Counter[str] = Counter()
        for process in processes_of(self.folder):
            with suppress(psutil.NoSuchProcess, IndexError):
                words = process.cmdline()
                script = next((word for word in words[1:] if word.endswith(".py")), words[0])
                found[script.rpartition("/")[2]] += 1
        return Counter({kind: count for kind, count in found.items() if "IDLE" not in kind})


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
