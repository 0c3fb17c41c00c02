"""What this project mends in vLLM's worker process on a CPU (vLLM 0.32).

Seeds: vLLM takes back the random number of a token that it drops (a prompt's part, sampled from before its end) by
moving the generator's offset, which a CPU's generator does not have: one seeded request ends the engine. Such tokens
are dropped only before the first one that counts, so starting anew from the seed is the same.

Adapters: tokens of the plain model carry the adapter number -1, which the CPU's LoRA operations read as "the last":
batched with an adapter's, a question to the plain model was answered by that adapter (vLLM pull requests 48421, 49656).
And they copy an adapter's whole weights for each token of a prompt, which is most of the time that a reading takes.
"""

from typing import Any

import torch


class ReseedableGenerator(torch.Generator):  # type: ignore[misc]  # torch is not there for mypy
    """A generator whose way back is its beginning."""

    def get_offset(self) -> int:
        """Always at the beginning."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Back to the beginning, wherever from."""
        self.manual_seed(self.initial_seed())


def by_adapter(inputs: Any, weights: Any, adapters: Any, dtype: Any) -> Any:
    """What each row becomes by its adapter, (rows, out): one product for each adapter; rows of none (-1) are zero.

    inputs: (rows, in); weights: (adapters, out, in), or with a dimension of one between; adapters: (rows,)
    """
    weights = weights.squeeze(1) if weights.dim() == 4 else weights
    found = torch.zeros(inputs.shape[0], weights.shape[1], dtype=dtype)
    for number in adapters.unique().tolist():
        if number >= 0:
            rows = adapters == number
            found[rows] = inputs[rows].to(dtype) @ weights[number].to(dtype).T
    return found


def shrink(inputs: Any, weights: Any, output: Any, adapters: Any, scaling: float = 1.0) -> None:
    """vLLM's bgmv_shrink."""
    found = by_adapter(inputs, weights, adapters, output.dtype)
    output[:, : found.shape[1]] = scaling * found


def expand(inputs: Any, weights: Any, output: Any, adapters: Any, add_inputs: bool = True) -> None:
    """vLLM's bgmv_expand: adapter and model may pad their outputs differently."""
    found = by_adapter(inputs, weights, adapters, output.dtype)
    width = min(found.shape[1], output.shape[1])
    _put(output[:, :width], found[: len(output), :width], add_inputs)


def expand_slice(
    inputs: Any, weights: Any, output: Any, adapters: Any, start: int, size: int, add_inputs: bool = True
) -> None:
    """vLLM's bgmv_expand_slice."""
    _put(output[:, start : start + size], by_adapter(inputs, weights, adapters, output.dtype), add_inputs)


def _put(place: Any, found: Any, add: bool) -> None:
    if add:
        place += found
    else:
        place[:] = found


class CpuWorker:
    """Mixed into vLLM's worker (`worker_extension_cls`); its methods are called there by name."""

    def mend(self) -> None:
        """From here on requests with a seed may be taken back, and no adapter answers for the plain model."""
        if torch.Generator is ReseedableGenerator:
            return
        from vllm.lora.ops.torch_ops import lora_ops
        from vllm.lora.punica_wrapper import punica_cpu

        place: Any = torch
        place.Generator = ReseedableGenerator
        mended = {"bgmv_shrink": shrink, "bgmv_expand": expand, "bgmv_expand_slice": expand_slice}
        for name, operation in mended.items():
            for module in (lora_ops, punica_cpu):  # the latter has its own names for them
                setattr(module, name, operation)
