"""The loop of each Ray Train worker: TRL's trainer on our sequences, with Ray's checkpoints.

Whatever ends a worker, training goes on from the last checkpoint with the sequences in the same order.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import ray.train
import torch
from datasets import Dataset
from transformers import set_seed
from trl import DPOConfig, SFTConfig

from codemmlu.engine import lora
from codemmlu.engine.model_source import resolve
from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir
from codemmlu.training import faults
from codemmlu.training.backends import BACKENDS, LoadedModel
from codemmlu.training.batches import Collator
from codemmlu.training.callback import TrainingCallback
from codemmlu.training.encoding import (
    TrainingExample,
    encode_preference,
    encode_sft,
    examples_from_table,
    letter_tokens,
)
from codemmlu.training.epochs import build_epochs
from codemmlu.training.frozen import ActivationStore, compile_layers
from codemmlu.training.job_spec import FAULT, LESSONS, TrainJobSpec
from codemmlu.training.trainers import AnswerTokenDPOTrainer, AnswerTokenSFTTrainer

Config = TypeVar("Config", SFTConfig, DPOConfig)

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_OPTIMIZERS = {"adamw_8bit": "adamw_bnb_8bit", "adamw": "adamw_torch"}


@dataclass(frozen=True)
class TrainTune:
    """The examples of a training.

    Attributes:
        train: Examples to train on.
        tune: Examples to evaluate on, which decide when to stop.
    """

    train: list[TrainingExample]
    tune: list[TrainingExample]


def run_worker(spec: TrainJobSpec) -> None:
    """Train to the end, from the last checkpoint on if there is one.

    A fault that a new attempt would meet again is written to a file for the driver. Every worker meets a user's
    mistake, so all workers end without being started again. Another fault, such as a full memory or disk, only one
    worker may notice: the error has all workers started again, and they end as soon as they see the file.

    Raises:
        RuntimeError: There is a fault that the other workers may not notice.
    """
    folder = RunDir(spec.address)
    if folder.exists(FAULT):
        return
    try:
        _train(spec, folder)
    except Exception as error:  # Errors of the libraries are of any kind; one that may pass goes on.
        text = faults.describe(error, spec)
        if text is None:
            raise
        faults.leave(folder, text)
        if not isinstance(error, UserError):
            raise RuntimeError(text) from error


def _train(spec: TrainJobSpec, folder: RunDir) -> None:
    settings = spec.settings
    set_seed(settings.seed)  # LoRA weights start the same in every worker
    start = str(lora.local(spec.start, spec.cache)) if spec.start else None
    model = resolve(spec.source, spec.cache)
    loaded = BACKENDS[spec.backend](model, spec.revision, settings, start, spec.trust_remote_code)
    table = folder.read_table(LESSONS)
    parts = TrainTune(examples_from_table(table, "train", settings), examples_from_table(table, "tune", settings))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = TRAINERS[settings.objective](loaded, parts, spec, scratch)
        for parameter in trainer.model.parameters():
            # TRL casts the LoRA weights of a quantised model to bf16, in which small steps are lost.
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        callback = TrainingCallback(spec, trainer, Path(scratch))
        trainer.add_callback(callback)
        resumed = callback.resume()
        if resumed is None or not callback.is_over(resumed):
            trainer.train(resume_from_checkpoint=resumed)
        callback.close(resumed)


def _configuration(
    kind: type[Config], settings: FinetuneSettings, loaded: LoadedModel, scratch: str, **own: Any
) -> Config:
    """Return the configuration of one of TRL's trainers: what both take, and what is the trainer's `own`."""
    return kind(
        output_dir=f"{scratch}/out",
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=1,  # the data holds the sequences of all epochs, one epoch after the other
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        optim=_OPTIMIZERS[settings.optimizer],
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        bf16=loaded.precision == "bf16",
        fp16=loaded.precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        max_length=None,  # sequences that are too long were left out: none is cut
        seed=settings.seed,
        logging_steps=1,
        eval_strategy="no",  # TrainingCallback decides when
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        **own,
    )


def _answers(loaded: LoadedModel, parts: TrainTune, spec: TrainJobSpec, scratch: str) -> Any:
    """Return a trainer for supervised fine-tuning, with the loss on the right letter."""
    # padding_free is given explicitly: Unsloth turns it on otherwise, and rows come without the mask that our trainer
    # reads.
    settings = spec.settings
    own = {"padding_free": False, "dataset_kwargs": {"skip_prepare_dataset": True}, "remove_unused_columns": False}
    args = _configuration(SFTConfig, settings, loaded, scratch, **own)
    inputs = vars(trainer_inputs(loaded, parts, spec, encode_sft))
    store = None
    if settings.activations_gib:
        store = ActivationStore(loaded.model, settings.frozen_layers, settings.activations_gib * 2**30)
    if settings.compile:
        compile_layers(loaded.model)
    return AnswerTokenSFTTrainer(
        args=args,
        data_collator=Collator(settings.packing, loaded.tokenizer.pad_token_id or 0),
        consistency=settings.consistency,
        orders=settings.orders,
        store=store,
        **inputs,
    )


def _preferences(loaded: LoadedModel, parts: TrainTune, spec: TrainJobSpec, scratch: str) -> Any:
    """Return a trainer for direct preference optimisation of the right letter over the wrong one."""
    args = _configuration(DPOConfig, spec.settings, loaded, scratch, beta=spec.settings.beta)
    return AnswerTokenDPOTrainer(args=args, **vars(trainer_inputs(loaded, parts, spec, encode_preference)))


TRAINERS: dict[str, Callable[[LoadedModel, TrainTune, TrainJobSpec, str], Any]] = {
    "answer": _answers,
    "preference": _preferences,
}


@dataclass(frozen=True)
class TrainerInputs:
    """The arguments that both trainers take besides their configuration.

    Attributes:
        letter_tokens: The tokens of all letters in use.
        model: The model.
        train_dataset: Sequences to train on.
        eval_dataset: Sequences to evaluate on.
        processing_class: The tokenizer.
    """

    letter_tokens: list[int]
    model: Any
    train_dataset: Any
    eval_dataset: Any
    processing_class: Any


def trainer_inputs(
    loaded: LoadedModel, parts: TrainTune, spec: TrainJobSpec, encode: Callable[..., Any]
) -> TrainerInputs:
    """Return the inputs that both trainers take: the model, and sequences to train and to evaluate on.

    Args:
        loaded: The model.
        parts: Examples to train and to evaluate on.
        spec: The job, whose `tell` gets the numbers of sequences and steps.
        encode: `encode_sft` or `encode_preference`.

    Returns:
        The inputs.

    Raises:
        UserError: Every example of a part is too long.
    """
    settings = spec.settings
    rows, dropped = build_epochs(loaded.tokenizer, parts.train, settings, encode)
    tune_rows, _ = encode(loaded.tokenizer, parts.tune, None, settings)
    if not rows or not tune_rows:
        part = "tune" if rows else "train"
        raise UserError(
            f"every example of the {part} part is longer than {settings.max_length:,} tokens; raise it",
            key="finetune.max_length",
        )
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        steps = math.ceil(len(rows) / (settings.batch_size * settings.accumulation * context.get_world_size()))
        spec.tell({"kind": "begin", "sequences": len(rows), "dropped": dropped, "steps": steps})
    size = max(len(example.question.choices) for example in parts.train)
    return TrainerInputs(
        letter_tokens=letter_tokens(loaded.tokenizer, parts.train[0], size, settings.template),
        model=loaded.model,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(tune_rows),
        processing_class=loaded.tokenizer,
    )
