"""TRL's trainers on our sequences: the model's head applied to the letters alone, and pairs as they stand.

A sequence has one token that is learnt. TRL's own loss runs a chunk of at least 256 tokens through the head, frozen as
it is: on Qwen2.5-0.5B's vocabulary of 151,936 that was more than half of a step on a CPU.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from trl import DPOTrainer, SFTTrainer

from codemmlu.training.lessons import IGNORED


class LetterTrainer(SFTTrainer):  # type: ignore[misc]
    """As SFTTrainer, on sequences {input_ids, labels} whose last token alone is labelled.

    letter_tokens: the tokens of all letters in use; an evaluation's accuracy is told among these
    """

    def __init__(self, letter_tokens: Sequence[int], **told: Any) -> None:
        super().__init__(**told)
        self._letter_tokens = torch.tensor(letter_tokens)

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
        # Rows end at different places, and the model keeps the same ones of all.
        kept, which = torch.unique(place - 1, return_inverse=True)
        logits = model(**inputs, logits_to_keep=kept, use_cache=False).logits
        # Unsloth's models keep all places whatever they are told; those asked for are always fewer.
        at = place - 1 if logits.shape[1] == inputs["input_ids"].shape[1] else which
        logits = logits[row, at].float()
        losses = functional.cross_entropy(logits, wanted, reduction="none")
        mode = "train" if self.model.training else "eval"
        if mode == "eval":
            among = self._letter_tokens.to(logits.device)
            right = among[logits[:, among].argmax(-1)] == wanted
            self._metrics[mode]["accuracy"] += self.accelerator.gather_for_metrics(right.float()).tolist()
        else:
            self._tokens = getattr(self, "_tokens", 0) + int(inputs["attention_mask"].sum())
            self._metrics[mode]["worker_tokens"] = [self._tokens]
        if num_items_in_batch is None:
            return losses.mean()
        return losses.sum() / num_items_in_batch * self.accelerator.num_processes


class PairTrainer(DPOTrainer):  # type: ignore[misc]
    """As DPOTrainer, on pairs that are tokens already: {prompt_ids, chosen_ids, rejected_ids}.

    TRL would put them through the chat template as finished turns, which is not how voters ask, and end each answer
    with tokens that come after a letter and not before it.
    """

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset
