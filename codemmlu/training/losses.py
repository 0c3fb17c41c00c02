"""The loss of a batch: the label of each sequence, and the agreement of a question's orders.

The head sees the last position of each sequence alone: with the vocabulary of Qwen2.5-0.5B (151,936 tokens), a head
over all positions is more than half of a step on a CPU.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from codemmlu.training.batches import Batch, lengths_of
from codemmlu.training.frozen import ActivationStore


@dataclass(frozen=True)
class SequenceLosses:
    """The losses of a batch.

    Attributes:
        losses: The loss of each sequence, shape (sequences,).
        logits: The logits for the letter of each sequence, shape (sequences, vocabulary), float32.
    """

    losses: torch.Tensor
    logits: torch.Tensor


def sequence_losses(
    model: Any, batch: Batch, consistency: float = 0.0, orders: int = 1, store: ActivationStore | None = None
) -> SequenceLosses:
    """Return the losses of a batch.

    Args:
        model: The model.
        batch: What `Collator` makes.
        consistency: The weight of the divergence between the orders of a question.
        orders: Consecutive sequences that show one question.
        store: Keeps what frozen layers say of a text; None: everything is computed.
    """
    logits = last_logits(model, batch, store)
    if "shares" in batch:
        logs = functional.log_softmax(logits, dim=-1).gather(1, batch["letter_ids"].clamp(min=0))
        losses = -(batch["shares"].to(logs.dtype) * logs).sum(dim=1)
    else:
        losses = functional.cross_entropy(logits, batch["labels"], reduction="none")
    if consistency and orders > 1:
        losses = losses + consistency * divergences(logits, batch, orders)
    return SequenceLosses(losses, logits)


def last_logits(model: Any, batch: Batch, store: ActivationStore | None = None) -> torch.Tensor:
    """Return the logits behind the last token of each sequence, shape (sequences, vocabulary), float32."""
    width = batch["input_ids"].shape[1]
    last = batch["nodes"].gather(1, (lengths_of(batch) - 1)[:, None])[:, 0]
    row, position = last // width, last % width
    kept, column = torch.unique(position, return_inverse=True)
    inputs: dict[str, Any] = {name: batch[name] for name in ("attention_mask", "position_ids") if name in batch}
    inputs |= store.inputs(model, batch) if store else {"input_ids": batch["input_ids"]}
    logits = model(**inputs, logits_to_keep=kept, use_cache=False).logits
    if store:
        store.keep(batch)
    # Unsloth's models keep all positions, whatever they are told; the positions asked for are always fewer.
    chosen: torch.Tensor = logits[row, position if logits.shape[1] == width else column].float()
    return chosen


def divergences(logits: torch.Tensor, batch: Batch, orders: int) -> torch.Tensor:
    """Return for each sequence the divergence between its choice probabilities and those in the next order.

    The probabilities are those of the letters alone, brought back to the order of the choices; the divergence is the
    mean of both directions of KL(p, q).

    Args:
        logits: The logits for the letters, shape (sequences, vocabulary).
        batch: The batch, with `letter_ids` and `order`.
        orders: Consecutive sequences that show one question.

    Returns:
        Shape (sequences,).
    """
    there = batch["letter_ids"] >= 0
    letters = logits.gather(1, batch["letter_ids"].clamp(min=0)).masked_fill(~there, float("-inf"))
    # The choices that a question lacks have no probability, and stay behind those that it has.
    order = batch["order"].masked_fill(~there, logits.shape[1])
    logs = functional.log_softmax(letters, dim=-1).gather(1, order.argsort(dim=1))
    logs = logs.masked_fill(torch.isinf(logs), -1e4)
    grouped = logs.view(-1, orders, logs.shape[1])
    other = grouped.roll(-1, dims=1)
    return 0.5 * ((grouped.exp() - other.exp()) * (grouped - other)).sum(dim=-1).view(-1)
