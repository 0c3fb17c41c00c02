"""Which backend is taken, and what is said where one cannot run."""

import re
from pathlib import Path
from typing import Any

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.backends import choose, load_with_peft
from tests.support.tiny_model import tiny_model


def settings(**changed: Any) -> FinetuneSettings:
    return FinetuneSettings(model="m", **changed)


@pytest.mark.parametrize(
    ("changed", "on_gpu", "installed", "why"),
    [
        ({}, False, True, "it needs an NVIDIA GPU"),
        ({"workers": 4}, True, True, "it trains with one worker"),
        ({"start": "there"}, True, True, "it does not go on from finetune.start"),
        ({"objective": "preference", "pairs_from": "runs/x"}, True, True, "it does not tune preferences"),
        ({}, True, False, "it is not installed (make setup EXTRAS=gpu,dev)"),
    ],
)
def test_where_unsloth_cannot_run_the_reason_is_given(
    changed: dict[str, Any], on_gpu: bool, installed: bool, why: str
) -> None:
    assert choose(settings(**changed), on_gpu, lambda _: installed) == ("peft", f"unsloth cannot run here: {why}")
    with pytest.raises(UserError, match=re.escape(f"finetune.backend: unsloth cannot run here: {why}")):
        choose(settings(backend="unsloth", **changed), on_gpu, lambda _: installed)


def test_what_runs_is_taken() -> None:
    assert choose(settings(), True, lambda _: True)[0] == "unsloth"
    assert choose(settings(backend="peft"), True, lambda _: True) == ("peft", "as finetune.backend says")


def test_an_evaluation_does_not_change_gradients_of_nf4_weights(tmp_path: Path) -> None:
    import torch

    model = load_with_peft(str(tiny_model(tmp_path / "tiny")), None, settings(rank=4), None).model
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


def test_targets_that_no_layer_has_are_a_mistake_of_the_user(tmp_path: Path) -> None:
    wrong = settings(quantization="none", targets=["nothing_of_the_kind"])
    with pytest.raises(UserError, match=r"finetune\.targets: .*nothing_of_the_kind"):
        load_with_peft(str(tiny_model(tmp_path / "tiny")), None, wrong, None)
