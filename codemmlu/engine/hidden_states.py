"""Hidden states: what a model's lower layers make of each choice, without a letter being asked for.

A prompt shows all choices; the state of a choice is that of its last token behind one of the layers. States are reduced
by a fixed random projection, which keeps distances (Johnson and Lindenstrauss 1984) and learns nothing. The layers
above are not computed. This goes through transformers, on the CPU: vLLM gives hidden states of pooling models alone.
"""

import asyncio
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from codemmlu.engine import chat_template, lora
from codemmlu.engine.model_source import resolve
from codemmlu.engine.protocol import DoesNotFit, EngineSettings, Generation, Sampling
from codemmlu.mcq import Prompt
from codemmlu.schema import Reading

STATES = "states"
States = npt.NDArray[np.float16]
_SEED = 0


class TokensDiffer(Exception):
    """A prompt whose choices cannot be found among its tokens: it holds the tokenizer's own control words."""


class StatesEngine:
    """A model whose hidden states are read; one prompt at a time."""

    def __init__(self, settings: EngineSettings) -> None:
        """Load the tokenizer; the layers are loaded at the first prompt."""
        from transformers import AutoTokenizer

        self._settings = settings
        self._source = resolve(settings.source, settings.cache)
        self._revision = settings.arguments.get("revision")
        self._trust = trust = bool(settings.arguments.get("trust_remote_code"))
        self._tokenizer: Any = AutoTokenizer.from_pretrained(
            self._source, revision=self._revision, trust_remote_code=trust
        )
        chat_template.complete(self._tokenizer, self._source, self._revision)
        self._length = settings.arguments.get("max_model_len")
        self._trunks: dict[tuple[str, float], Any] = {}
        self._turn = asyncio.Lock()

    async def states(self, prompt: Prompt, marked: Prompt, layer: float, dimensions: int, adapter: str = "") -> States:
        """Return the reduced state of each choice, shape (n_choices, dimensions), and of length 1 before reduction.

        Args:
            prompt: The prompt.
            marked: The same prompt with `END` behind each choice.
            layer: The share of the layers that a token passes.
            dimensions: The numbers of a reduced state.
            adapter: The directory of the LoRA weights to answer with; empty: the model alone.

        Raises:
            DoesNotFit: The prompt is too long; where choices cannot be found, TokensDiffer passes through.
        """
        tokens, ends = locate(self._tokenizer, prompt, marked)
        if not self.fits(len(tokens)):
            raise DoesNotFit(f"the prompt has {len(tokens):,} tokens, the model takes {self._length:,}")
        async with self._turn:
            return await asyncio.to_thread(self._read, tokens, ends, (adapter, layer), dimensions)

    def _read(self, tokens: list[int], ends: list[int], trunk: tuple[str, float], dimensions: int) -> States:
        import torch

        if trunk not in self._trunks:
            self._trunks[trunk] = self._load(*trunk)
        with torch.inference_mode():
            hidden = self._trunks[trunk](input_ids=torch.tensor([tokens]), use_cache=False).last_hidden_state[0]
        chosen = hidden[ends].float().numpy()
        chosen = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1e-6)
        reduced: States = (chosen @ projection(chosen.shape[1], dimensions)).astype(np.float16)
        return reduced

    def _load(self, adapter: str, layer: float) -> Any:
        """Load the layers up to one, with an adapter merged into them."""
        import torch
        from transformers import AutoModelForCausalLM

        trust = self._trust
        model: Any = AutoModelForCausalLM.from_pretrained(
            self._source,
            dtype=torch.float32,
            use_safetensors=True,
            revision=self._revision,
            trust_remote_code=trust,
        )
        if adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(lora.local(adapter, self._settings.cache))).merge_and_unload()
        trunk = model.base_model
        config = trunk.config.get_text_config()
        kept = max(1, round(layer * config.num_hidden_layers))
        del decoder_layers(trunk)[kept:]
        config.num_hidden_layers = kept
        return trunk.eval()

    async def check(self, prompt: Prompt) -> None:
        """Accept any prompt: no letter is asked for."""

    async def check_adapter(self, prompt: Prompt, adapter: str) -> None:
        """Accept an adapter, which is loaded with the layers."""

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """Refuse to read letters."""
        raise NotImplementedError("hidden states are read, and no letters")

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """Refuse to write."""
        raise NotImplementedError("hidden states are read, and no text is written")

    def tokens(self, prompt: Prompt) -> int:
        """Count the tokens of a prompt."""
        return len(chat_template.encode(self._tokenizer, prompt)[1])

    def fits(self, tokens: int) -> bool:
        """Return whether the model takes a prompt of so many tokens."""
        return self._length is None or tokens <= self._length

    def close(self) -> None:
        """Forget the layers."""
        self._trunks.clear()


def open_states(settings: EngineSettings) -> StatesEngine:
    """Open a model for its hidden states."""
    return StatesEngine(settings)


END = "\uf8ff"  # a private-use character, behind each choice of a marked prompt


def locate(tokenizer: Any, prompt: Prompt, marked: Prompt) -> tuple[list[int], list[int]]:
    """Return the tokens of a prompt, and the index of each choice's last token, in the order in which they are shown.

    Raises:
        TokensDiffer: The text's own tokens are not those of the prompt.
    """
    text, tokens = chat_template.encode(tokenizer, prompt)
    pieces = chat_template.encode(tokenizer, marked)[0].split(END)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    shift = len(tokens) - len(encoded["input_ids"])  # special tokens that the tokenizer puts before a plain text
    if "".join(pieces) != text or shift < 0 or tokens[shift:] != encoded["input_ids"]:
        raise TokensDiffer("the prompt holds control words, or the mark of choices")
    starts = [start for start, _ in encoded["offset_mapping"]]
    ends, place = [], 0
    for piece in pieces[:-1]:
        place += len(piece)
        ends.append(shift + max(index for index, start in enumerate(starts) if start < place))
    return tokens, ends


@cache
def projection(size: int, dimensions: int) -> npt.NDArray[np.float32]:
    """Return the fixed matrix that reduces states, shape (size, dimensions)."""
    drawn = np.random.default_rng(_SEED).standard_normal((size, dimensions)) / np.sqrt(dimensions)
    matrix: npt.NDArray[np.float32] = drawn.astype(np.float32)
    return matrix


def decoder_layers(model: Any) -> Any:
    """Return the layers of a model, from the lowest one on; the experts of a layer may be more than these."""
    from torch import nn

    count = model.config.get_text_config().num_hidden_layers
    return next(module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count)
