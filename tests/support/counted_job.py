"""jobs/answer.py with another engine behind it, and a file that counts what is asked.

    python tests/counted_job.py ASKED (vllm | SCRIPT.json) RECIPE [key.path=value ...]

ASKED.PID, of the process that holds the engine, gets one line per prompt that reaches it: the question's line with a
`#q`, or `no content`. SCRIPT.json has
the fields of a `scripted.Script`; with `dies_once: PATH` the engine that is to die does so only where PATH is not there
yet, with `at_start: true` its process ends while it is opened, and with `unable: [PATH, 2]` the second one to be opened
cannot be, as if its GPU were broken; PATH counts.
"""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Any

from codemmlu import steps
from codemmlu.command import main
from codemmlu.engine.protocol import Engine, EngineSettings, Generation, Sampling
from codemmlu.engine.vllm_engine import open_vllm
from codemmlu.errors import UserError
from codemmlu.prompts import Prompt
from codemmlu.rows import Reading
from tests.support.engines import Script, ScriptedEngine


class Counted:
    """An engine that writes down what it is asked before it asks."""

    def __init__(self, engine: Engine, asked: str) -> None:
        self._engine, self._asked = engine, f"{asked}.{os.getpid()}"

    async def check(self, prompt: Prompt) -> None:
        """See Engine."""
        await self._engine.check(prompt)

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """See Engine."""
        line = next((line for line in prompt.messages[-1].content.splitlines() if "#q" in line), "no content")
        handle = os.open(self._asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{line}\n".encode())
        os.close(handle)
        return await self._engine.score(prompt, adapter)

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """See Engine."""
        return await self._engine.generate(prompt, sampling, adapter)

    def tokens(self, prompt: Prompt) -> int:
        """See Engine."""
        return self._engine.tokens(prompt)

    def fits(self, tokens: int) -> bool:
        """See Engine."""
        return self._engine.fits(tokens)

    def close(self) -> None:
        """See Engine."""
        self._engine.close()


def open_counted(settings: EngineSettings, asked: str, engine: str) -> Engine:
    """Opens the engine that the command line named."""
    if engine == "vllm":
        return Counted(open_vllm(settings), asked)
    told: dict[str, Any] = json.loads(engine)
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in told.items()}
    if once := fields.pop("dies_once", None):
        if Path(once).exists():
            fields.pop("dies")
        Path(once).touch()
    if fields.pop("at_start", False):
        os.kill(os.getpid(), signal.SIGKILL)
    if unable := fields.pop("unable", None):
        with open(unable[0], "a+") as opened:
            opened.write(".")
            if opened.tell() == unable[1]:
                raise UserError("scripted: this engine cannot start")
    return Counted(ScriptedEngine(Script(**fields), settings), asked)


if __name__ == "__main__":
    asked, engine, *arguments = sys.argv[1:]
    named = engine if engine == "vllm" else Path(engine).read_text()
    step = partial(steps.answer, open_engine=partial(open_counted, asked=asked, engine=named))
    sys.exit(main("answer", "", step, arguments))
