"""What the rest of the project knows of an engine. The scripted engine stands behind the same Protocol as vLLM."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from codemmlu.mcq import Prompt
from codemmlu.schema import Reading


class DoesNotFit(Exception):
    """A prompt the engine cannot take. Says how many tokens it has and how many there is room for."""


@dataclass(frozen=True)
class Sampling:
    """How free text is written. temperature 0: always the likeliest token; top_k 0: among all."""

    max_tokens: int
    n: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0  # the run's; each request makes its own of it


@dataclass(frozen=True)
class Generation:
    """n texts of one request, in the engine's order; tokens are the whole request's.

    A thought that the model's template opened for it is opened in the text: one that is cut off can be told.
    """

    texts: tuple[str, ...]
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


class Engine(Protocol):
    """A loaded model."""

    async def check(self, prompt: Prompt) -> None:
        """Proves on one prompt that each of its letters is one token and comes back finite; UserError otherwise."""

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """One prefill: the log-probabilities of the prompt's letters, or of the first tokens of its words.

        adapter: the directory of the LoRA weights to answer with; empty: the model alone
        Raises DoesNotFit, or EngineDied.
        """

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """Free text. Cut off where the engine's length ends. Raises DoesNotFit when not one token has room."""

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
    arguments: vLLM's own engine arguments, or the script of a scripted engine
    label: Ray's name of the kind of GPU, for an engine on several nodes; None: any
    backend: a name in `engine.backends.BACKENDS`
    """

    source: str
    cache: str
    arguments: dict[str, Any]
    label: str | None = None
    backend: str = "vllm"


OpenEngine = Callable[[EngineSettings], Engine]
