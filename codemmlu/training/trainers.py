"""TRL's trainers on our sequences: the model's head sees the letters alone, and a pair is read once.

A sequence has one token that is learnt. TRL's own loss runs a chunk of at least 256 tokens through the head, although
the head is frozen.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.nn import functional
from trl import DPOTrainer, SFTTrainer
from trl.trainer.utils import use_adapter

from codemmlu.training.batches import lengths_of
from codemmlu.training.frozen import ActivationStore
from codemmlu.training.losses import sequence_losses


class _Letters:
    """What both trainers share: a loss on the letters alone, and metrics.

    The metrics are the tokens read by this worker while training, and the accuracy in an evaluation: among
    `letter_tokens`, the tokens of all letters in use.
    """

    def __init__(self, letter_tokens: Sequence[int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._letter_tokens, self._read = torch.tensor(letter_tokens), 0

    def compute_loss(
        self: Any,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """Return the loss of a batch, with the parameters of transformers' Trainer; outputs are never returned."""
        loss: torch.Tensor = self._loss(model, inputs, num_items_in_batch)
        return loss

    def _note(self: Any, logits: torch.Tensor, right: torch.Tensor, counts: torch.Tensor) -> None:
        """Update the metrics with the logits of one batch, the right letters' tokens and counts of the rows' tokens."""
        if self.model.training:
            self._read += int(counts.sum())
            self._metrics["train"]["worker_tokens"] = [self._read]
            return
        letter_tokens = self._letter_tokens.to(logits.device)
        is_right = letter_tokens[logits[:, letter_tokens].argmax(-1)] == right
        self._metrics["eval"]["accuracy"] += self.accelerator.gather_for_metrics(is_right.float()).tolist()


class AnswerTokenSFTTrainer(_Letters, SFTTrainer):  # type: ignore[misc]
    """An SFTTrainer on the batches of a `Collator`, of which the letters alone are labelled."""

    def __init__(
        self,
        letter_tokens: Sequence[int],
        consistency: float = 0.0,
        orders: int = 1,
        store: ActivationStore | None = None,
        **arguments: Any,
    ) -> None:
        """Keep what the loss needs; `arguments` are SFTTrainer's, with a `Collator` as data_collator."""
        super().__init__(letter_tokens, **arguments)
        self._consistency, self._orders, self._store = consistency, orders, store

    def _loss(self, model: Any, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor:
        """Return the loss of the rows' letters: the sum over the letters of the step in all workers."""
        # The tune part shows each question in one order, and its loss is that of the key alone.
        consistency = self._consistency if self.model.training else 0.0
        if not self.model.training:
            inputs = {name: value for name, value in inputs.items() if name != "shares"}
        found = sequence_losses(model, inputs, consistency, self._orders, self._store)
        self._note(found.logits, inputs["labels"], lengths_of(inputs))
        if num_items_in_batch is None:
            return found.losses.mean()
        share: torch.Tensor = found.losses.sum() / num_items_in_batch * self.accelerator.num_processes
        return share


class AnswerTokenDPOTrainer(_Letters, DPOTrainer):  # type: ignore[misc]
    """A DPOTrainer on pairs of one letter each, as tokens: {prompt_ids, chosen_ids, rejected_ids}.

    TRL would put the pairs through the chat template as finished turns, which is not how voters ask, and would end each
    answer with tokens that come after a letter and not before it.
    """

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """Return the dataset as it is."""
        return dataset

    def _loss(self, model: Any, inputs: dict[str, Any], _: torch.Tensor | int | None) -> torch.Tensor:
        """Compute the loss of DPO (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

        Both letters are at the same position after the same prompt, so that one forward pass gives the logits of both,
        where TRL reads the prompt once with each letter. The normaliser of the logits is the same for all letters, and
        cancels in their difference.

        Returns:
            The mean loss over the pairs.
        """
        half = len(inputs["input_ids"]) // 2  # the chosen sequences come first, then the rejected ones
        row, position = inputs["completion_mask"][:half].nonzero(as_tuple=True)
        chosen, rejected = (ids[row, position] for ids in inputs["input_ids"].split(half))
        once = {name: inputs[name][:half] for name in ("input_ids", "attention_mask")}
        logits = _logits_of(model, once, row, position)
        pair = torch.arange(half, device=logits.device)
        unwrapped = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), use_adapter(unwrapped, adapter_name="ref" if "ref" in unwrapped.peft_config else None):
            reference = _logits_of(self.model, once, row, position)
        margin = (logits - reference)[pair, chosen] - (logits - reference)[pair, rejected]
        self._note(logits, chosen, once["attention_mask"])
        return -functional.logsigmoid(self.beta * margin).mean()


def _logits_of(model: Any, inputs: dict[str, Any], row: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Return the logits for the tokens at given positions of given rows: [positions, vocabulary], float32."""
    # The logits for a token are those of the position before. Rows end at different positions, and the model keeps the
    # same positions of all rows.
    kept, index = torch.unique(position - 1, return_inverse=True)
    logits = model(**inputs, logits_to_keep=kept, use_cache=False).logits
    # Unsloth's models keep all positions, whatever they are told; the positions asked for are always fewer.
    column = position - 1 if logits.shape[1] == inputs["input_ids"].shape[1] else index
    return cast(torch.Tensor, logits[row, column].float())
