"""A scripted engine behind the engine's Protocol: it answers by rule, and fails where it is told to."""

import asyncio
import itertools
import math
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from codemmlu.engine.protocol import DoesNotFit, Engine, EngineSettings, Generation, Sampling
from codemmlu.errors import EngineDied, UserError
from codemmlu.prompts import Prompt
from codemmlu.rows import Reading

ENGINE_PROCESS = "ScriptedCore"
SETTINGS = EngineSettings(source="scripted", cache="/nowhere", arguments={})


@dataclass(frozen=True)
class Script:
    """What a scripted engine does: plain values, so that it crosses to an actor.

    right: a piece of a question's text to the text of the choice it prefers; all other questions get letter A
    The tuples hold pieces of question text; a prompt that contains one of them is treated that way.
    refuses: texts of choices that a check says FALSE to; all others are TRUE
    replies: the free texts of every request, in turn
    refused: what `check` says is wrong with the model, as the person's mistake
    killed: pieces at which the process around the engine ends at once, as under SIGKILL
    process: it has a process of its own, as vLLM has, by the name of ENGINE_PROCESS, and is dead once that is
    """

    right: Mapping[str, str] = field(default_factory=dict)
    does_not_fit: tuple[str, ...] = ()
    breaks: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    dies: tuple[str, ...] = ()
    killed: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    replies: tuple[str, ...] = ("The answer is A.",)
    refused: str | None = None
    process: bool = False
    seconds: float = 0.0  # for each prompt


class ScriptedEngine:
    """Keeps what it was asked: `checked` and `scored` in order, and the most prompts that were under way at once."""

    def __init__(self, script: Script, settings: EngineSettings) -> None:
        self.script, self.settings = script, settings
        self.checked: list[Prompt] = []
        self.scored: list[Prompt] = []
        self.adapters: list[str] = []  # of each of these
        self.generated: list[tuple[Prompt, Sampling]] = []
        self.under_way = self.most_at_once = self.closed = 0
        command = [ENGINE_PROCESS, "3600"]
        self._process = subprocess.Popen(command, executable="/bin/sleep") if script.process else None

    async def check(self, prompt: Prompt) -> None:
        """See Engine."""
        self.checked.append(prompt)
        await asyncio.sleep(self.script.seconds)
        if self.script.refused:
            raise UserError(self.script.refused)

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """See Engine."""
        self.scored.append(prompt)
        self.adapters.append(adapter)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await asyncio.sleep(self.script.seconds)
            return self._read(prompt)
        finally:
            self.under_way -= 1

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """See Engine."""
        await self.score(prompt, adapter)
        texts = tuple(itertools.islice(itertools.cycle(self.script.replies), sampling.n))
        self.generated.append((prompt, sampling))
        return Generation(texts, self.tokens(prompt), 0, sum(len(text.split()) for text in texts))

    def tokens(self, prompt: Prompt) -> int:
        """See Engine: its words."""
        return sum(len(message.content.split()) for message in prompt.messages)

    def fits(self, tokens: int) -> bool:
        """See Engine."""
        return tokens <= 10_000

    def close(self) -> None:
        """See Engine."""
        self.closed += 1
        if self._process:
            self._process.kill()

    def _read(self, prompt: Prompt) -> Reading:
        text = prompt.messages[-1].content

        def told(pieces: tuple[str, ...]) -> bool:
            return any(piece in text for piece in pieces)

        if told(self.script.killed):
            os.kill(os.getpid(), signal.SIGKILL)
        if told(self.script.dies) or (self._process and self._process.poll() is not None):
            raise EngineDied("scripted: the engine's process ended")
        if told(self.script.does_not_fit):
            raise DoesNotFit("the prompt has 9,999 tokens, this engine takes 100")
        if told(self.script.breaks):
            raise RuntimeError("scripted: broken on \udc80 this")
        if prompt.words:
            chosen = "FALSE" if any(f"\n{choice}\n" in text for choice in self.script.refuses) else "TRUE"
            logprobs = [math.log(0.7 if word == chosen else 0.1) for word in prompt.words]
        else:
            chosen = preferred(prompt, self.script.right)
            logprobs = [math.log(0.7 if letter == chosen else 0.1) for letter in prompt.letters]
        if told(self.script.not_finite):
            logprobs[-1] = -math.inf
        mass = sum(map(math.exp, logprobs))
        return Reading(prompt.order, tuple(logprobs), mass, prompt_tokens=len(text.split()), cached_tokens=0)


def preferred(prompt: Prompt, right: Mapping[str, str]) -> str:
    """The letter at which the preferred choice is shown; A where the script says nothing."""
    text = prompt.messages[-1].content
    wanted = next((choice for piece, choice in right.items() if piece in text), None)
    shown = (letter for letter in prompt.letters if f"\n{letter}. {wanted}\n" in f"{text}\n")
    return next(shown, "A")


def opens(script: Script) -> Callable[[EngineSettings], Engine]:
    """What stands in for `open_vllm`."""
    return partial(ScriptedEngine, script)
