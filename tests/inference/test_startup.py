"""The wait for the first answer: it is reported, and limited where the recipe says so."""

from typing import cast

import pytest

from codemmlu.errors import Progress, UserError
from codemmlu.inference import startup
from codemmlu.inference.startup import Startup


class Lines:
    """Keeps lines, and ends the wait after some."""

    def __init__(self, start: Startup, most: int) -> None:
        self.lines: list[str] = []
        self._start, self._most = start, most

    def say(self, line: str) -> None:
        self.lines.append(line)
        if len(self.lines) == self._most:
            self._start.end()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "REMINDER", 0.01)


def test_a_long_start_is_reported_with_the_logs_place() -> None:
    start = Startup("mixtral", None, "/tmp/ray/session_latest/logs")
    said = Lines(start, 2)
    start.watch(cast(Progress, said))
    assert len(said.lines) == 2
    assert said.lines[0].startswith("mixtral: no answer after 0 min: the engine waits for its GPU, loads")
    assert "/tmp/ray/session_latest/logs (worker-*.out)" in said.lines[0]
    assert "NCCL_P2P_DISABLE=1" in said.lines[0]


def test_an_answer_ends_the_wait_without_a_word() -> None:
    start = Startup("m", 60.0, "logs")
    start.end()
    said = Lines(start, 1)
    start.watch(cast(Progress, said))
    assert said.lines == []


def test_the_recipes_limit_ends_the_run() -> None:
    start = Startup("m", 0.05, "logs")
    with pytest.raises(
        UserError, match=r"^models\.m\.start_timeout: no answer within 0\.05 s of the start; its log is"
    ):
        start.watch(cast(Progress, Lines(start, 1000)))
