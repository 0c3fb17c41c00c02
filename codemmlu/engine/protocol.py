"""The engine protocol: all that other packages know of an engine.

vLLM and the scripted engine implement the same Protocol.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from codemmlu.engine.placement.gpus import Device
from codemmlu.mcq import Prompt
from codemmlu.schema import Reading


class DoesNotFit(Exception):
    """A prompt that is too long. The message has its number of tokens and the engine's limit."""


@dataclass(frozen=True)
class Sampling:
    """How free text is sampled.

    Attributes:
        max_tokens: Tokens of each text at most.
        n: Number of texts.
        temperature: 0 is greedy decoding.
        top_k: Tokens that are sampled from; 0: all.
        top_p: The probability mass that is sampled from.
        repetition_penalty: 1 is none.
        seed: The run's seed, from which each request derives its own.
    """

    max_tokens: int
    n: int = 1
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Generation:
    """The texts of one request.

    Attributes:
        texts: The n texts, in the engine's order. A thought that the chat template opens is opened in the text, so that
            a thought that was cut off can be recognized.
        prompt_tokens: Tokens of the prompt, for the whole request.
        cached_tokens: Tokens of the prompt that were in the prefix cache, for the whole request.
        generated_tokens: Tokens of all texts.
    """

    texts: tuple[str, ...]
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int


class Engine(Protocol):
    """A loaded model."""

    async def check(self, prompt: Prompt) -> None:
        """Check on a prompt that each letter is one token and finite in log-probability, or raise UserError."""

    async def check_adapter(self, prompt: Prompt, adapter: str) -> None:
        """Load an adapter and check on a prompt that the adapter changes the reading, or raise UserError."""

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """Compute log-probabilities of a prompt's letters, or of its words' first tokens, in one prefill.

        Args:
            prompt: The prompt.
            adapter: The directory of the LoRA weights to answer with; empty: the model alone.

        Raises:
            DoesNotFit: The prompt is too long.
            EngineDied: The engine's process ended.
        """

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """Generate free text, which is cut off at the engine's length.

        Args:
            prompt: The prompt.
            sampling: How the text is sampled.
            adapter: The directory of the LoRA weights to answer with; empty: the model alone.

        Raises:
            DoesNotFit: There is no room for a single token.
            EngineDied: The engine's process ended.
        """

    def tokens(self, prompt: Prompt) -> int:
        """Count the tokens of a prompt."""

    def fits(self, tokens: int) -> bool:
        """Return whether the engine takes a prompt of so many tokens."""

    def close(self) -> None:
        """End the engine and its processes."""


@dataclass(frozen=True)
class EngineSettings:
    """The plain values that are sent to the actor that opens an engine.

    Attributes:
        source: The model, as `engine.model_source.resolve` takes it on the actor's node.
        cache: The folder in which models that are made on the node are kept.
        arguments: vLLM's engine arguments, or the script of a scripted engine.
        label: Ray's name of the kind of GPU, for an engine on several nodes; None: any.
        backend: A name in `engine.backends.BACKENDS`.
        device: The hardware that vLLM computes on; a scripted engine has none.
        name: The name of the model in the recipe, for error messages.
        cores: The CPU cores that Ray counts on the actor's node; None: not known.
    """

    source: str
    cache: str
    arguments: dict[str, Any]
    label: str | None = None
    backend: str = "vllm"
    device: Device = Device.CPU
    name: str = "NAME"
    cores: int | None = None


OpenEngine = Callable[[EngineSettings], Engine]
