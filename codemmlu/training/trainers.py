"""TRL's trainers on our sequences: the model's head applied to the letters alone, and a pair read once.

A sequence has one token that is learnt. TRL's own loss runs a chunk of at least 256 tokens through the head, frozen as
it is: on Qwen2.5-0.5B's vocabulary of 151,936 that was more than half of a step on a CPU.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch.nn import functional
from trl import DPOTrainer, SFTTrainer
from trl.trainer.utils import use_adapter

from codemmlu.training.encoding import IGNORED


class _Letters:
    """What both trainers tell: while training the tokens that this worker has read, in an evaluation how often it is
    right.

    letter_tokens: the tokens of all letters in use; accuracy is told among these
    """

    def __init__(self, letter_tokens: Sequence[int], **told: Any) -> None:
        super().__init__(**told)
        self._letter_tokens, self._read = torch.tensor(letter_tokens), 0

    def _note(self: Any, logits: torch.Tensor, right: torch.Tensor, seen: torch.Tensor) -> None:
        if self.model.training:
            self._read += int(seen.sum())
            self._metrics["train"]["worker_tokens"] = [self._read]
            return
        among = self._letter_tokens.to(logits.device)
        found = among[logits[:, among].argmax(-1)] == right
        self._metrics["eval"]["accuracy"] += self.accelerator.gather_for_metrics(found.float()).tolist()


class AnswerTokenSFTTrainer(_Letters, SFTTrainer):  # type: ignore[misc]
    """As SFTTrainer, on sequences {input_ids, labels} whose last token alone is labelled."""

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The cross-entropy of each row's letter: their sum by the letters of the whole step, of all workers."""
        labels = inputs.pop("labels")
        row, place = (labels != IGNORED).nonzero(as_tuple=True)
        wanted = labels[row, place]
        logits = _before(model, inputs, row, place)
        losses = functional.cross_entropy(logits, wanted, reduction="none")
        self._note(logits, wanted, inputs["attention_mask"])
        if num_items_in_batch is None:
            return losses.mean()
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes


class AnswerTokenDPOTrainer(_Letters, DPOTrainer):  # type: ignore[misc]
    """As DPOTrainer, on pairs that are tokens already: {prompt_ids, chosen_ids, rejected_ids}, one letter each.

    TRL would put them through the chat template as finished turns, which is not how voters ask, and end each answer
    with tokens that come after a letter and not before it.
    """

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> torch.Tensor:
        """DPO's loss (Rafailov et al. 2023, arXiv:2305.18290, equation 7), the mean over the pairs.

        Both letters stand at one place after one prompt, so that one pass says how likely each is, where TRL reads the
        prompt with the one and again with the other; and what all letters share falls out of their difference.
        """
        half = len(inputs["input_ids"]) // 2  # the chosen ones, then the rejected
        row, place = inputs["completion_mask"][:half].nonzero(as_tuple=True)
        chosen, rejected = (ids[row, place] for ids in inputs["input_ids"].split(half))
        once = {name: inputs[name][:half] for name in ("input_ids", "attention_mask")}
        logits = _before(model, once, row, place)
        at = torch.arange(half, device=logits.device)
        plain = self.accelerator.unwrap_model(self.model)
        with torch.no_grad(), use_adapter(plain, adapter_name="ref" if "ref" in plain.peft_config else None):
            reference = _before(self.model, once, row, place)
        margin = (logits - reference)[at, chosen] - (logits - reference)[at, rejected]
        self._note(logits, chosen, once["attention_mask"])
        return -functional.logsigmoid(self.beta * margin).mean()


def _before(model: Any, inputs: dict[str, Any], row: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """What the model says to every token at given places of given rows: [places, vocabulary], float32."""
    # Rows end at different places, and the model keeps the same ones of all.
    kept, which = torch.unique(place - 1, return_inverse=True)
    logits = model(**inputs, logits_to_keep=kept, use_cache=False).logits
    # Unsloth's models keep all places whatever they are told; those asked for are always fewer.
    at = place - 1 if logits.shape[1] == inputs["input_ids"].shape[1] else which
    return cast(torch.Tensor, logits[row, at].float())
