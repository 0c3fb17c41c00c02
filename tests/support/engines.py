"""The scripted engine of the package, keeping what it was asked."""

from collections.abc import Iterator
from contextlib import contextmanager

from codemmlu.engine.protocol import EngineSettings, Generation, Sampling
from codemmlu.engine.scripted import Script, ScriptedEngine
from codemmlu.mcq import Prompt
from codemmlu.schema import Reading

SETTINGS = EngineSettings(source="scripted", cache="/nowhere", arguments={})


class RecordingEngine(ScriptedEngine):
    """Records prompts in order, and the most that were in progress at once. `scored` includes generations."""

    def __init__(self, script: Script) -> None:
        super().__init__(script)
        self.checked: list[Prompt] = []
        self.scored: list[Prompt] = []
        self.generated: list[tuple[Prompt, Sampling]] = []
        self.in_progress = self.most_at_once = 0

    async def check(self, prompt: Prompt) -> None:
        """See Engine."""
        self.checked.append(prompt)
        await super().check(prompt)

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """See Engine."""
        with self._recorded(prompt):
            return await super().score(prompt, adapter)

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """See Engine."""
        self.generated.append((prompt, sampling))
        with self._recorded(prompt):
            return await super().generate(prompt, sampling, adapter)

    @contextmanager
    def _recorded(self, prompt: Prompt) -> Iterator[None]:
        self.scored.append(prompt)
        self.in_progress += 1
        self.most_at_once = max(self.most_at_once, self.in_progress)
        try:
            yield
        finally:
            self.in_progress -= 1
