"""LoRA on the CPU: what is put in place of vLLM's operations does as they do, for every row by its own adapter.

torch is imported late: it takes seconds, and every process of the tests collects this file.
"""

from typing import Any

import pytest

TOKENS, WIDTH, RANK = 7, 12, 4
ADAPTERS = [0, 2, 2, -1, 1, 0, -1]


def by_hand(inputs: Any, weights: Any) -> Any:
    import torch

    rows = [
        weights[number] @ row if number >= 0 else torch.zeros(weights.shape[1])
        for row, number in zip(inputs, ADAPTERS, strict=True)
    ]
    return torch.stack(rows)


@pytest.fixture
def drawn() -> tuple[Any, Any]:
    import torch

    torch.manual_seed(0)
    return torch.randn(TOKENS, WIDTH), torch.randn(3, RANK, WIDTH)


@pytest.mark.parametrize("between", [False, True])
def test_each_row_is_shrunk_by_its_own_adapter_alone(drawn: tuple[Any, Any], between: bool) -> None:
    """A row of the plain model comes to zero; what stands beyond the rank is left alone."""
    import torch

    from codemmlu.engine import vllm_cpu_patches

    inputs, weights = drawn
    output = torch.full((TOKENS, RANK + 1), 9.0)
    vllm_cpu_patches.shrink(inputs, weights.unsqueeze(1) if between else weights, output, torch.tensor(ADAPTERS), 0.5)
    torch.testing.assert_close(output[:, :RANK], 0.5 * by_hand(inputs, weights))
    assert (output[:, RANK] == 9).all()
    assert (output[3, :RANK] == 0).all()


@pytest.mark.parametrize("add", [True, False])
def test_expanding_adds_to_what_the_model_says(drawn: tuple[Any, Any], add: bool) -> None:
    import torch

    from codemmlu.engine import vllm_cpu_patches

    inputs, weights = drawn
    said = torch.randn(TOKENS, RANK - 1)  # the model pads less than the adapter
    output = said.clone()
    vllm_cpu_patches.expand(inputs, weights, output, torch.tensor(ADAPTERS), add)
    torch.testing.assert_close(output, by_hand(inputs, weights)[:, : RANK - 1] + (said if add else 0))
    wide = torch.zeros(TOKENS, 10)
    vllm_cpu_patches.expand_slice(inputs, weights, wide, torch.tensor(ADAPTERS), 3, RANK, add)
    torch.testing.assert_close(wide[:, 3 : 3 + RANK], by_hand(inputs, weights))
    assert wide[:, :3].abs().sum() == wide[:, 3 + RANK :].abs().sum() == 0
