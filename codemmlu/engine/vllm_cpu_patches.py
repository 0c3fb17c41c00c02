"""CPU patches: corrections of vLLM 0.32 in its worker process on a CPU.

Seeds: vLLM drops a token that it sampled before the end of a prompt (from one part of it), and takes back the random
number by moving the generator's offset. A CPU's generator has no offset, so one seeded request ends the engine. Only
tokens before the first one that counts are dropped, so a restart from the seed is equivalent.

Adapters: tokens of the plain model carry the adapter number -1, which the LoRA operations on a CPU read as the last
adapter. In a batch with a request to an adapter, a question to the plain model was answered by that adapter (vLLM pull
requests 48421, 49656). These operations also copy the whole weights of an adapter for each token of a prompt, which is
most of the time that a reading takes.
"""

from typing import Any

import torch


class ReseedableGenerator(torch.Generator):  # type: ignore[misc]  # mypy does not see torch
    """A random generator whose offset is always zero: setting the offset restarts it from its seed."""

    def get_offset(self) -> int:
        """Return zero, the beginning."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Restart from the seed, whatever the offset."""
        self.manual_seed(self.initial_seed())


def by_adapter(inputs: Any, weights: Any, adapters: Any, dtype: Any) -> Any:
    """Multiply each row by the weights of its adapter, with one matrix product for each adapter.

    Args:
        inputs: The rows, of shape (rows, in).
        weights: The weights of all adapters, of shape (adapters, out, in) or (adapters, 1, out, in).
        adapters: The number of each row's adapter, of shape (rows,); -1: none.
        dtype: The dtype of the products.

    Returns:
        The products, of shape (rows, out); rows without an adapter are zero.
    """
    weights = weights.squeeze(1) if weights.dim() == 4 else weights
    products = torch.zeros(inputs.shape[0], weights.shape[1], dtype=dtype)
    for number in adapters.unique().tolist():
        if number >= 0:
            rows = adapters == number
            products[rows] = inputs[rows].to(dtype) @ weights[number].to(dtype).T
    return products


def shrink(inputs: Any, weights: Any, output: Any, adapters: Any, scaling: float = 1.0) -> None:
    """Replace vLLM's bgmv_shrink."""
    products = by_adapter(inputs, weights, adapters, output.dtype)
    output[:, : products.shape[1]] = scaling * products


def expand(inputs: Any, weights: Any, output: Any, adapters: Any, add_inputs: bool = True) -> None:
    """Replace vLLM's bgmv_expand: adapter and model may pad their outputs differently."""
    products = by_adapter(inputs, weights, adapters, output.dtype)
    width = min(products.shape[1], output.shape[1])
    _store(output[:, :width], products[: len(output), :width], add_inputs)


# The seven parameters are those of vLLM's operation.
def expand_slice(
    inputs: Any, weights: Any, output: Any, adapters: Any, start: int, size: int, add_inputs: bool = True
) -> None:
    """Replace vLLM's bgmv_expand_slice."""
    _store(output[:, start : start + size], by_adapter(inputs, weights, adapters, output.dtype), add_inputs)


def _store(target: Any, products: Any, add: bool) -> None:
    if add:
        target += products
    else:
        target[:] = products


class CpuWorker:
    """A mix-in of vLLM's worker (`worker_extension_cls`), whose methods are called there by name."""

    def apply_cpu_patches(self) -> None:
        """Patch this process: seeded requests do not end it, and no adapter answers for the plain model."""
        if torch.Generator is ReseedableGenerator:
            return
        from vllm.lora.ops.torch_ops import lora_ops
        from vllm.lora.punica_wrapper import punica_cpu

        torch_module: Any = torch
        torch_module.Generator = ReseedableGenerator
        patches = {"bgmv_shrink": shrink, "bgmv_expand": expand, "bgmv_expand_slice": expand_slice}
        for name, operation in patches.items():
            for module in (lora_ops, punica_cpu):  # punica_cpu imports the operations under names of its own.
                setattr(module, name, operation)
