"""Which backend is taken, and what is said where one cannot run."""

from pathlib import Path

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.backends import choose, load_with_peft
from tests.training.tiny import tiny_model


def test_auto_takes_what_runs_and_says_why() -> None:
    assert choose("auto", 1, on_gpu=True, has=lambda _: True)[0] == "unsloth"
    assert choose("auto", 1, on_gpu=False, has=lambda _: True) == (
        "peft",
        "unsloth cannot run here: it needs an NVIDIA GPU",
    )
    assert choose("auto", 4, on_gpu=True, has=lambda _: True) == (
        "peft",
        "unsloth cannot run here: it trains with one worker",
    )
    assert "not installed" in choose("auto", 1, on_gpu=True, has=lambda _: False)[1]


def test_one_that_is_asked_for_is_not_replaced_in_silence() -> None:
    with pytest.raises(UserError, match=r"finetune\.backend: unsloth cannot run here: it needs an NVIDIA GPU"):
        choose("unsloth", 1, on_gpu=False, has=lambda _: True)
    assert choose("peft", 1, on_gpu=True, has=lambda _: True)[0] == "peft"


def test_an_evaluation_leaves_the_gradients_of_nf4_weights_as_they_were(tmp_path: Path) -> None:
    import torch

    settings = FinetuneSettings(model="m", rank=4)
    model = load_with_peft(str(tiny_model(tmp_path / "tiny")), None, settings, None).model
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:  # zeros let no gradient through to lora_A
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    tokens = torch.arange(32).reshape(2, 16)

    def gradients() -> list[torch.Tensor]:
        model.train()
        model.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    before = gradients()
    model.eval()
    with torch.no_grad():
        model(input_ids=tokens)
    for one, other in zip(before, gradients(), strict=True):
        torch.testing.assert_close(one, other)
