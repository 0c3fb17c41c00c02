"""What this project mends in vLLM's worker process on a CPU (vLLM 0.32).

Seeds: vLLM takes back the random number of a token that it drops (a prompt's part, sampled from before its end) by
moving the generator's offset, which a CPU's generator does not have: one seeded request ends the engine. Such tokens
are dropped only before the first one that counts, so starting anew from the seed is the same.

Adapters: tokens of the plain model carry the adapter number -1, which the CPU's LoRA operations read as "the last":
batched with an adapter's, a question to the plain model was answered by that adapter (vLLM pull requests 48421, 49656).
"""

from collections.abc import Callable
from typing import Any

import torch


class Rewound(torch.Generator):  # type: ignore[misc]  # torch is not there for mypy
    """A generator whose way back is its beginning."""

    def get_offset(self) -> int:
        """Always at the beginning."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Back to the beginning, wherever from."""
        self.manual_seed(self.initial_seed())


def without_plain_rows(operation: Callable[..., None]) -> Callable[..., None]:
    """A LoRA operation (inputs, weights, output, adapter of each row, ...) for which rows of no adapter are zero."""

    def apart(inputs: Any, weights: Any, output: Any, adapters: Any, *others: Any, **named: Any) -> None:
        operation(inputs.masked_fill(adapters.unsqueeze(1) < 0, 0), weights, output, adapters, *others, **named)

    return apart


class CpuWorker:
    """Mixed into vLLM's worker (`worker_extension_cls`); its methods are called there by name."""

    def mend(self) -> None:
        """From here on requests with a seed may be taken back, and no adapter answers for the plain model."""
        if torch.Generator is Rewound:
            return
        from vllm.lora.ops.torch_ops import lora_ops
        from vllm.lora.punica_wrapper import punica_cpu

        place: Any = torch
        place.Generator = Rewound
        for name in ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice"):
            mended = without_plain_rows(getattr(lora_ops, name))
            for module in (lora_ops, punica_cpu):  # the latter has its own names for them
                setattr(module, name, mended)
