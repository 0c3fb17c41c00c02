"""Our trainers' losses against TRL's own, on the same model and batch.

Libraries that take seconds to import are imported late, as every process of the tests collects this file.
"""

from pathlib import Path
from typing import Any

import pytest

from codemmlu.training.encoding import IGNORED
from tests.support.tiny_model import tiny_model

LETTERS = [330, 389, 340, 422]  # any four tokens
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [15, 16, 17, 18, 19]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"))


def learner(folder: Path) -> Any:
    """The model with fresh LoRA weights."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    return get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, target_modules=["down_proj"]))


def trainer_inputs(folder: Path, rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """What every trainer is given."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    data = Dataset.from_list(rows)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return {"model": learner(folder), "train_dataset": data, "eval_dataset": data, "processing_class": tokenizer}


def arguments(tmp_path: Path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "report_to": "none",
        "per_device_train_batch_size": 3,
        "max_length": None,
        "gradient_checkpointing": False,
    }


def loss_and_gradient(loss_of: Any, trainer: Any) -> tuple[float, Any]:
    """Of the first batch and the first LoRA weights, which have learnt something since TRL took its reference."""
    import torch

    torch.manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B.default" in name:
            torch.nn.init.normal_(parameter, std=20.0)
    trainer.model.train()
    trainer.model.zero_grad()
    (batch,) = [trainer._prepare_inputs(one) for one in trainer.get_eval_dataloader()]
    loss = loss_of(trainer, trainer.model, batch)
    loss.backward()
    gradient = next(p.grad.clone() for n, p in trainer.model.named_parameters() if "lora_B.default" in n)
    return float(loss.detach()), gradient


def test_a_pair_read_once_is_what_trl_reads_twice(folder: Path, tmp_path: Path) -> None:
    from torch import allclose
    from trl import DPOConfig, DPOTrainer

    from codemmlu.training.trainers import AnswerTokenDPOTrainer

    rows = [{"prompt_ids": p, "chosen_ids": [LETTERS[n]], "rejected_ids": [LETTERS[3]]} for n, p in enumerate(PROMPTS)]
    args = DPOConfig(**arguments(tmp_path), beta=0.7)
    trainer = AnswerTokenDPOTrainer(letter_tokens=LETTERS, args=args, **trainer_inputs(folder, rows))
    ours, our_gradient = loss_and_gradient(AnswerTokenDPOTrainer.compute_loss, trainer)
    theirs, their_gradient = loss_and_gradient(DPOTrainer.compute_loss, trainer)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert abs(ours - 0.6931) > 0.01, "the weights are not those that are compared with"
    assert allclose(our_gradient, their_gradient, rtol=1e-3, atol=1e-7)


def test_the_loss_of_letters_alone_is_trls_of_the_whole(folder: Path, tmp_path: Path) -> None:
    import torch
    from trl import SFTConfig, SFTTrainer

    from codemmlu.training.batches import Collator
    from codemmlu.training.trainers import AnswerTokenSFTTrainer

    rows = [{"input_ids": [*p, LETTERS[n]], "labels": [IGNORED] * len(p) + [LETTERS[n]]} for n, p in enumerate(PROMPTS)]
    plain = {"padding_free": False, "dataset_kwargs": {"skip_prepare_dataset": True}}

    def of(collator: Any = None, **own: Any) -> tuple[float, Any]:
        torch.manual_seed(2)
        inputs = trainer_inputs(folder, rows)
        if collator is None:
            trainer = SFTTrainer(args=SFTConfig(**arguments(tmp_path), **plain), **inputs)
            return loss_and_gradient(SFTTrainer.compute_loss, trainer)
        args = SFTConfig(**arguments(tmp_path), **plain, remove_unused_columns=False)
        trainer = AnswerTokenSFTTrainer(LETTERS, args=args, data_collator=collator, **own, **inputs)
        return loss_and_gradient(AnswerTokenSFTTrainer.compute_loss, trainer)

    theirs, their_gradient = of()
    for packing in (False, True):
        ours, our_gradient = of(Collator(packing))
        assert ours == pytest.approx(theirs, rel=1e-5)
        assert torch.allclose(our_gradient, their_gradient, rtol=1e-3, atol=1e-7)
