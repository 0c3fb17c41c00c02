"""The loop that each of Ray Train's workers runs: TRL's trainer over our lessons, with Ray's checkpoints.

Whatever ends a worker, it goes on from the last checkpoint with the lessons in the same order.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from codemmlu.training.backends import BACKENDS, LoadedModel
from codemmlu.training.callback import TrainingCallback
from codemmlu.training.encoding import (
    TrainingExample,
    build_epochs,
    encode_preference,
    encode_sft,
    examples_from_table,
    letter_tokens,
)
from codemmlu.training.job_spec import FAULT, LESSONS, TrainJobSpec, too_large
from codemmlu.training.trainers import AnswerTokenDPOTrainer, AnswerTokenSFTTrainer

_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_OPTIMIZERS = {"adamw_8bit": "adamw_bnb_8bit", "adamw": "adamw_torch"}
_CPU_OUT_OF_MEMORY = "DefaultCPUAllocator: can't allocate memory"  # torch has no type of its own for that


@dataclass(frozen=True)
class TrainTune:
    """The examples that are learnt from, and those that say when to stop."""

    train: list[TrainingExample]
    tune: list[TrainingExample]


def run_worker(course: TrainJobSpec) -> None:
    """Trains to the end, from the last checkpoint on if there is one.

    A mistake of the person's is written down for the driver. Every worker finds it, so all end here without being
    started again; where memory is out one alone may know, so that all are, and end then.
    """
    folder = RunDir(course.address)
    if folder.exists(FAULT):
        return
    settings = course.settings
    try:
        _attend(course, folder)
    except UserError as error:
        folder.write(FAULT, str(error).encode())
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _CPU_OUT_OF_MEMORY not in str(error):
            raise
        folder.write(FAULT, too_large(settings).encode())
        raise RuntimeError(too_large(settings)) from error


def _attend(course: TrainJobSpec, folder: RunDir) -> None:
    settings = course.settings
    set_seed(settings.seed)  # LoRA weights start the same in every worker
    start = str(lora.local(course.start, course.cache)) if course.start else None
    loaded = BACKENDS[course.backend](resolve(course.source, course.cache), course.revision, settings, start)
    table = folder.read_table(LESSONS)
    parts = TrainTune(examples_from_table(table, "train", settings), examples_from_table(table, "tune", settings))
    with tempfile.TemporaryDirectory() as scratch:
        trainer = TRAINERS[settings.objective](loaded, parts, course, _arguments(settings, loaded, scratch))
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:  # TRL makes those of a quantised model bf16, in which small steps are lost
                parameter.data = parameter.data.float()
        reporter = TrainingCallback(course, trainer, Path(scratch))
        trainer.add_callback(reporter)
        resumed = reporter.resume()
        if resumed is None or not reporter.is_over(resumed):
            trainer.train(resume_from_checkpoint=resumed)
        reporter.close(resumed)


def _arguments(settings: FinetuneSettings, loaded: LoadedModel, scratch: str) -> dict[str, Any]:
    """What both of TRL's trainers are told."""
    return {
        "output_dir": f"{scratch}/out",
        "per_device_train_batch_size": settings.batch_size,
        "per_device_eval_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "num_train_epochs": 1,  # the lessons of all epochs stand one after the other
        "train_sampling_strategy": "sequential",
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": _SCHEDULES[settings.schedule],
        "warmup_steps": settings.warmup_steps,
        "weight_decay": settings.weight_decay,
        "optim": _OPTIMIZERS[settings.optimizer],
        "gradient_checkpointing": settings.gradient_checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "bf16": loaded.precision == "bf16",
        "fp16": loaded.precision == "fp16",
        "use_cpu": not torch.cuda.is_available(),
        "max_length": None,  # what is too long was left out: nothing is cut
        "seed": settings.seed,
        "logging_steps": 1,
        "eval_strategy": "no",  # the Reporter says when
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "ddp_find_unused_parameters": False,
    }


def _answers(loaded: LoadedModel, parts: TrainTune, course: TrainJobSpec, arguments: dict[str, Any]) -> Any:
    """Supervised: the loss is on the right letter."""
    # padding_free is said: where it is not, Unsloth turns it on, and rows come without the mask that is read here.
    args = SFTConfig(**arguments, padding_free=False, dataset_kwargs={"skip_prepare_dataset": True})
    return AnswerTokenSFTTrainer(args=args, **trainer_inputs(loaded, parts, course, encode_sft))


def _preferences(loaded: LoadedModel, parts: TrainTune, course: TrainJobSpec, arguments: dict[str, Any]) -> Any:
    """Direct preference optimisation: the right letter over the wrong one."""
    return AnswerTokenDPOTrainer(
        args=DPOConfig(**arguments, beta=course.settings.beta),
        **trainer_inputs(loaded, parts, course, encode_preference),
    )


TRAINERS: dict[str, Callable[[LoadedModel, TrainTune, TrainJobSpec, dict[str, Any]], Any]] = {
    "answer": _answers,
    "preference": _preferences,
}


def trainer_inputs(
    loaded: LoadedModel, parts: TrainTune, course: TrainJobSpec, encode: Callable[..., Any]
) -> dict[str, Any]:
    """What both trainers are given: the model and, as sequences, what it learns from and is tried on."""
    settings = course.settings
    rows, dropped = build_epochs(loaded.tokenizer, parts.train, settings, encode)
    asked, _ = encode(loaded.tokenizer, parts.tune, None, settings)
    if not rows or not asked:
        part = "tune" if rows else "train"
        raise UserError(
            f"finetune.max_length: every example of the {part} part is longer than {settings.max_length:,} tokens; "
            "raise it"
        )
    context = ray.train.get_context()
    if context.get_world_rank() == 0:
        steps = math.ceil(len(rows) / (settings.batch_size * settings.accumulation * context.get_world_size()))
        course.tell({"kind": "begin", "sequences": len(rows), "dropped": dropped, "steps": steps})
    sizes = max(len(lesson.question.choices) for lesson in parts.train)
    return {
        "letter_tokens": letter_tokens(loaded.tokenizer, parts.train[0], sizes, settings.template),
        "model": loaded.model,
        "train_dataset": Dataset.from_list(rows),
        "eval_dataset": Dataset.from_list(asked),
        "processing_class": loaded.tokenizer,
    }
