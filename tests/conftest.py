"""What all tests share: one Ray in each worker of pytest that needs one, and the groups that run in one worker."""

import os
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator

import hypothesis
import pytest

# How long an example takes depends on what else the machine does. Each run draws other examples.
hypothesis.settings.register_profile("codemmlu", deadline=None, max_examples=40)
hypothesis.settings.load_profile("codemmlu")

# The kinds of tests by price; all others are pure.
KINDS = ("soak", "engine", "ray")

# With several workers of pytest each keeps to cores of its own: two engines whose threads wait for each other on the
# same cores slow each other down. Before anything counts the cores; processes that a test starts inherit them.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    workers, cores = int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[int(worker.removeprefix("gw")) :: workers] or cores)

# Where the tests' clusters keep their things, and where jobs look for one: none of this machine's is joined, and none
# is found by tests that run beside these. Short: a socket's path has no room for pytest's folders.
FOLDER = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
os.environ["RAY_TMPDIR"] = FOLDER
os.environ.pop("RAY_ADDRESS", None)
# Workers that have nothing to do are kept for the next test's tasks: starting one takes two seconds of a core.
os.environ.setdefault("RAY_num_workers_soft_limit", "8")

from codemmlu.cluster.environment import configure  # noqa: E402

# Here, as tests import ray before a job has called it.
configure()

from tests.support.ray import ray_in_this_process  # noqa: E402  (it copies the environment)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Leave nothing of the tests' clusters, once they have ended."""
    shutil.rmtree(FOLDER, ignore_errors=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Note each test's kind, and keep tests that share something slow in one worker of pytest-xdist.

    That is a Ray, an engine, or what the fixtures of a module make. Here and not once all are collected: pytest-xdist
    reads the groups before this file could set them.
    """
    if "ray_cluster" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.ray)
    kinds = [kind for kind in KINDS if item.get_closest_marker(kind)] or ["pure"]
    item.user_properties.append(("kind", kinds[0]))
    if not item.get_closest_marker("xdist_group"):
        shared = next((kind for kind in kinds if kind in ("engine", "ray")), item.path.stem)
        item.add_marker(pytest.mark.xdist_group(shared))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how long the tests of each kind took; with several workers the sum is more than the time that passed."""
    seconds: dict[str, float] = defaultdict(float)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[str(dict(report.user_properties)["kind"])] += report.duration
    if seconds:
        totals = ", ".join(f"{kind} {total:.0f} s" for kind, total in sorted(seconds.items()))
        terminalreporter.write_line(f"time of the tests: {totals}")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[dict[str, str]]:
    """A Ray for all tests of this process; yields the environment in which other processes join it."""
    with ray_in_this_process() as environment:
        yield environment


@pytest.fixture(autouse=True)
def _ray_only_by_fixture(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that uses Ray without `ray_cluster`: whether it would start one depended on the tests before it."""
    if "ray_cluster" in request.fixturenames:
        yield
        return
    if session := sys.modules.get("codemmlu.cluster.session"):
        monkeypatch.setattr(session, "join", _refuse)
        yield
        return
    yield
    if (ray := sys.modules.get("ray")) and ray.is_initialized():
        ray.shutdown()
        pytest.fail("this test started Ray: it needs the fixture ray_cluster")


def _refuse(*_: object) -> None:
    raise AssertionError("this test uses Ray: it needs the fixture ray_cluster")
