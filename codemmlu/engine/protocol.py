"""What the rest of the project knows of an engine. Tests put a small scripted engine behind the same door."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from codemmlu.prompts import Prompt
from codemmlu.rows import Reading


class DoesNotFit(Exception):
    """A prompt the engine cannot take. Says how many tokens it has and how many there is room for."""


class Engine(Protocol):
    """A loaded model."""

    async def check(self, prompt: Prompt) -> None:
        """Proves on one prompt that each of its letters is one token and comes back finite; UserError otherwise."""

    async def score(self, prompt: Prompt) -> Reading:
        """One prefill: the log-probabilities of the prompt's letters. Raises DoesNotFit, or EngineDied."""

    def tokens(self, prompt: Prompt) -> int:
        """How many tokens a prompt has."""

    def fits(self, tokens: int) -> bool:
        """Whether a prompt of so many tokens can be asked."""

    def close(self) -> None:
        """Ends the engine and its processes."""


@dataclass(frozen=True)
class EngineSettings:
    """What crosses to the actor that opens an engine: plain values.

    source: the model, as `engine.sources.materialise` takes it on the actor's own node
    cache: where what that makes is kept
    arguments: vLLM's own engine arguments
    """

    source: str
    cache: str
    arguments: dict[str, Any]


OpenEngine = Callable[[EngineSettings], Engine]
