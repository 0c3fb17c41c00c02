"""An engine that asks transformers: what the real engine's numbers are compared with.

It computes each prompt alone and in float32, without caches, batches or restarts, and looks letters up by name.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codemmlu.engine import chat_template
from codemmlu.engine.protocol import Generation, Sampling
from codemmlu.mcq import Prompt
from codemmlu.schema import Reading

# Between two log-probabilities of float32 that are the same but for the order of sums, at most.
CLOSE = 0.002


class TransformersEngine:
    """A model directory in transformers.

    Args:
        folder: The model and its tokenizer, which has to be of GPT-2's kind.
        settings: Values that differ from those in the model's config.json.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._torch = torch
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **settings).eval()

    def next_token(self, tokens: Sequence[int]) -> Any:
        """Return the log-probability of every token of the vocabulary after some tokens."""
        with self._torch.no_grad():
            logits = self.model(self._torch.tensor([list(tokens)]), logits_to_keep=1).logits
        return logits[0, -1].log_softmax(-1)

    async def check(self, prompt: Prompt) -> None:
        """See Engine."""

    async def check_adapter(self, prompt: Prompt, adapter: str) -> None:
        """See Engine."""

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """See Engine."""
        _, tokens = chat_template.encode(self.tokenizer, prompt)
        names = prompt.words or prompt.letters
        written = [prompt.before_letter + name for name in names]
        firsts = [self.tokenizer.encode(text, add_special_tokens=False)[0] for text in written]
        logprobs = self.next_token(tokens)[firsts].tolist()
        return Reading(prompt.order, tuple(logprobs), sum(map(math.exp, logprobs)), len(tokens), 0)

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """See Engine. The likeliest token follows each time."""
        assert sampling.temperature == 0
        _, tokens = chat_template.encode(self.tokenizer, prompt, free=True)
        text: list[int] = []
        while len(text) < sampling.max_tokens:
            text.append(int(self.next_token([*tokens, *text]).argmax()))
        return Generation((self.tokenizer.decode(text, skip_special_tokens=True),), len(tokens), 0, len(text))

    def tokens(self, prompt: Prompt) -> int:
        """See Engine."""
        return len(chat_template.encode(self.tokenizer, prompt)[1])

    def fits(self, tokens: int) -> bool:
        """See Engine."""
        return tokens < int(self.model.config.max_position_embeddings)

    def close(self) -> None:
        """See Engine."""
