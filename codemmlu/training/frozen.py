"""The lowest layers of a model, frozen: no weights are trained there, and what they say of a text can be kept.

Without weights to train below a layer, no gradient goes further down, which spares half of the computation there. A
text that comes again (a question of the tune part at each evaluation, a question whose choices keep their order, an
order of a question that a later epoch repeats) need not pass these layers again at all. The first time every text does.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from codemmlu.engine.hidden_states import decoder_layers
from codemmlu.errors import UserError
from codemmlu.training.batches import Batch, lengths_of


def check_frozen(model: Any, frozen: int) -> int:
    """Return the number of layers of a model.

    Raises:
        UserError: All layers would be frozen.
    """
    count = len(decoder_layers(model))
    if frozen >= count:
        raise UserError(
            f"{frozen} of {count} layers leaves none to train; set it to {count - 1} or less",
            key="finetune.frozen_layers",
        )
    return count


def compile_layers(model: Any, backend: str = "inductor") -> None:
    """Compile each layer of a model in place, at its first use, for inputs of any length; `backend` is torch's."""
    for layer in decoder_layers(model):
        layer.compile(dynamic=True, backend=backend)


class _Passable(nn.Module):  # type: ignore[misc]
    """A frozen layer that hands its input on while `switch` says that the input passed the layer before."""

    def __init__(self, layer: nn.Module, switch: "ActivationStore") -> None:
        super().__init__()
        self.layer = layer
        self._switch = (switch,)  # A tuple, so that torch does not take the store for a part of the layer.

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the layer, which models look at."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return what the layer returns, or its input."""
        return hidden_states if self._switch[0].skips else self.layer(hidden_states, *args, **kwargs)


class ActivationStore:
    """What the frozen layers of a model say of each text, up to a limit of memory."""

    def __init__(self, model: Any, frozen: int, limit: float) -> None:
        """Wrap the frozen layers of a model.

        Args:
            model: The model, whose lowest layers have no weights to train.
            frozen: The number of these layers.
            limit: Bytes to keep; what comes later is computed each time.
        """
        self.skips = False
        self.hits = self.misses = 0
        self._limit, self._used = limit, 0
        self._kept: dict[tuple[int, ...], torch.Tensor] = {}
        self._seen: torch.Tensor | None = None
        layers = decoder_layers(model)
        for number in range(frozen):
            layers[number] = _Passable(layers[number], self)
        layers[frozen].register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, _: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if not self.skips:
            self._seen = (args[0] if args else kwargs["hidden_states"]).detach()

    def inputs(self, model: Any, batch: Batch) -> dict[str, torch.Tensor]:
        """Return the model's input of a batch: its tokens, or what is kept of all of its texts."""
        found = [self._kept.get(text) for text in _texts(batch)]
        self.skips = all(one is not None for one in found)
        self.hits, self.misses = self.hits + len(found) * self.skips, self.misses + len(found) * (not self.skips)
        if not self.skips:
            return {"input_ids": batch["input_ids"]}
        kept = cast(list[torch.Tensor], found)
        flat = kept[0].new_zeros(batch["input_ids"].numel(), kept[0].shape[-1])
        for nodes, states in zip(batch["nodes"], kept, strict=True):
            flat[nodes[nodes >= 0]] = states.to(flat.device)
        return {"inputs_embeds": flat.view(*batch["input_ids"].shape, -1)}

    def keep(self, batch: Batch) -> None:
        """Keep what the frozen layers have just said of a batch."""
        if self.skips or self._seen is None:
            self.skips = False
            return
        flat = self._seen.reshape(-1, self._seen.shape[-1])
        for text, nodes in zip(_texts(batch), batch["nodes"], strict=True):
            size = len(text) * flat.shape[-1] * flat.element_size()
            if text not in self._kept and self._used + size <= self._limit:
                self._kept[text] = flat[nodes[nodes >= 0]].clone()
                self._used += size
        self._seen = None


def _texts(batch: Batch) -> list[tuple[int, ...]]:
    """Return the tokens of each sequence of a batch."""
    flat = batch["input_ids"].reshape(-1)
    return [
        tuple(flat[nodes[:length]].tolist())
        for nodes, length in zip(batch["nodes"], lengths_of(batch).tolist(), strict=True)
    ]
