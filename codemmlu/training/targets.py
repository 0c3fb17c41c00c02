"""The layers that LoRA weights are trained for: every target of the recipe has to be a layer of the model."""

from collections.abc import Sequence
from typing import Any

from codemmlu.errors import UserError


def check_targets(model: Any, targets: Sequence[str]) -> None:
    """Refuse targets that match no layer, which peft leaves out without an error as long as another one matches.

    Args:
        model: The model, before it has LoRA weights.
        targets: The recipe's finetune.targets.

    Raises:
        UserError: A target matches no layer.
    """
    layers = _trainable_layers(model)
    unmatched = [target for target in targets if not any(f".{name}".endswith(f".{target}") for name in layers)]
    if not unmatched:
        return
    numbered = (name for name in layers if any(part.isdigit() for part in name.split(".")))
    own = sorted({name.rpartition(".")[2] for name in numbered})
    experts = any(".experts." in name and parameter.dim() == 3 for name, parameter in model.named_parameters())
    note = "; its experts are tables of their own, which LoRA does not train here" if experts else ""
    raise UserError(
        f"finetune.targets: {', '.join(unmatched)} match no layer of this model{note}; its layers are "
        f"{', '.join(own)}: set finetune.targets=[{', '.join(own)}], or some of them"
    )


def _trainable_layers(model: Any) -> list[str]:
    """Return the names of the layers that peft can give LoRA weights."""
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds)]
