"""Hostile programs in every backend that takes their language: none gets out, none costs more than its limits."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from codemmlu.sandbox import BACKENDS, Limits, Program, Sandbox, SandboxMissing, open_sandbox
from tests.sandbox.hostile import HOSTILE, SLOW, Hostile

_LIMITS = Limits(seconds=6, cpu=1, memory=400, processes=40, output=20_000)
_SLOW = Limits(seconds=25, cpu=5, memory=600, processes=60, output=20_000)
# Programs that go on until a limit ends them take seconds each: two of each kind are in the quick tier.
_QUICK = {"python forks for ever", "python prints for ever", "python eats memory", "python sleeps"}


def slow(name: str, case: Hostile) -> bool:
    """Tell whether a case is kept for the long tier."""
    return name in SLOW or (name not in _QUICK and (bool(case.ends) or "for ever" in name))


_CASES = [
    pytest.param(backend, case, id=f"{backend}: {name}", marks=[pytest.mark.soak] if slow(name, case) else [])
    for backend in BACKENDS
    for name, case in (HOSTILE | SLOW).items()
    if backend == "bubblewrap" or case.language == "python"
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a hostile program looks for: a file, a port and a process of the host."""
    canary = tmp_path_factory.mktemp("host") / "canary"
    canary.write_text("canary", encoding="utf-8")
    os.environ["CODEMMLU_SECRET"] = "canary"
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"{canary}": str(canary), "{port}": str(server.getsockname()[1]), "{pid}": str(os.getpid())}
    del os.environ["CODEMMLU_SECRET"]


def opened(name: str) -> Sandbox:
    """Return a backend; skip the test where the backend does not work on this machine."""
    try:
        return open_sandbox(name)
    except SandboxMissing as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("backend", "case"), _CASES)
def test_it_stays_inside_and_within_limits(backend: str, case: Hostile, host: dict[str, str]) -> None:
    sandbox = opened(backend)
    if case.language not in sandbox.languages():
        pytest.skip(f"{case.language}: no tool on this machine")
    source = case.source
    for name, value in host.items():
        source = source.replace(name, value)
    limits = _SLOW if case in SLOW.values() else _LIMITS
    began = time.monotonic()
    outcome = sandbox.run(Program(case.language, source), limits)
    assert "ESCAPED" not in outcome.printed + outcome.errors
    if case.ends and backend == "bubblewrap":
        # A compiler that a limit ends says nothing about the text; a busy machine's clock may be the first limit.
        others = {"unsupported" if "compile_error" in case.ends else "", "timeout" if "memory" in case.ends else ""}
        if "Cannot fork" in outcome.errors:  # The limit of processes holds for all programs of the user together.
            others.add("unsupported")
        assert outcome.status in {*case.ends, *others}, outcome
    assert time.monotonic() - began < 2 * limits.seconds + 10
    assert len(outcome.printed) <= _LIMITS.output
    assert Path(host["{canary}"]).read_text(encoding="utf-8") == "canary"
    assert _children() == set()


def _children() -> set[str]:
    """Return the names of this process's descendants that a sandbox may have left behind."""
    left = psutil.Process().children(recursive=True)
    _, alive = psutil.wait_procs(left, timeout=30)
    return {process.name() for process in alive}
