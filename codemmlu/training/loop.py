"""The loop that each of Ray Train's workers runs: TRL's trainer over our lessons, with Ray's checkpoints.

A checkpoint holds the trainer's own (`trainer/`: weights, optimizer, schedule, random states, history) and the best
weights so far (`best/`). Whatever ends a worker, it goes on from the last one with the lessons in the same order.
"""

import math
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray.train
import torch
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed
from trl import DPOConfig, SFTConfig

from codemmlu.engine import adapters
from codemmlu.engine.sources import materialise
from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir
from codemmlu.training.backends import BACKENDS, Loaded
from codemmlu.training.course import BEST, FAULT, LESSONS, TRAINER, Course, too_large
from codemmlu.training.lessons import Lesson, encoded, lessons, letter_tokens, pairs, schooling
from codemmlu.training.letters import LetterTrainer, PairTrainer

TRAINER_STATE = "trainer_state.json"
_SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}
_OPTIMIZERS = {"adamw_8bit": "adamw_bnb_8bit", "adamw": "adamw_torch"}


def attend(course: Course) -> None:
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
    except torch.OutOfMemoryError as error:
        folder.write(FAULT, too_large(settings).encode())
        raise RuntimeError(too_large(settings)) from error


def _attend(course: Course, folder: RunDir) -> None:
    settings = course.settings
    context = ray.train.get_context()
    set_seed(settings.seed)  # LoRA weights start the same in every worker
    start = str(adapters.local(course.start, course.cache)) if course.start else None
    loaded = BACKENDS[course.backend](materialise(course.source, course.cache), course.revision, settings, start)
    table = folder.read_table(LESSONS)
    its, tuned = lessons(table, "train", settings), lessons(table, "tune", settings)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = MAKERS[settings.objective](loaded, its, tuned, settings, scratch, context.get_world_size(), course)
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:  # TRL makes those of a quantised model bf16, in which small steps are lost
                parameter.data = parameter.data.float()
        reporter = Reporter(course, trainer, Path(scratch))
        trainer.add_callback(reporter)
        resumed = reporter.resume()
        if resumed is None or not reporter.is_over(resumed):
            trainer.train(resume_from_checkpoint=resumed)
        if reporter.reported == 0:  # it had been at its end when it was stopped
            reporter.report(TrainerState.load_from_json(f"{resumed}/{TRAINER_STATE}") if resumed else trainer.state)


def _arguments(settings: FinetuneSettings, loaded: Loaded, scratch: str) -> dict[str, Any]:
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


def _answers(
    loaded: Loaded,
    its: list[Lesson],
    tuned: list[Lesson],
    settings: FinetuneSettings,
    scratch: str,
    workers: int,
    course: Course,
) -> Any:
    """Supervised: the loss is on the right letter."""
    rows, dropped = schooling(loaded.tokenizer, its, settings, encoded)
    asked, _ = encoded(loaded.tokenizer, tuned, None, settings)
    _begin(rows, asked, dropped, settings, workers, course)
    sizes = max(len(lesson.question.choices) for lesson in its)
    return LetterTrainer(
        letter_tokens=letter_tokens(loaded.tokenizer, its[0], sizes, settings.template),
        model=loaded.model,
        args=SFTConfig(**_arguments(settings, loaded, scratch), dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(asked),
        processing_class=loaded.tokenizer,
    )


def _preferences(
    loaded: Loaded,
    its: list[Lesson],
    tuned: list[Lesson],
    settings: FinetuneSettings,
    scratch: str,
    workers: int,
    course: Course,
) -> Any:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290): the right letter over the wrong one."""
    rows, dropped = schooling(loaded.tokenizer, its, settings, pairs)
    asked, _ = pairs(loaded.tokenizer, tuned, None, settings)
    _begin(rows, asked, dropped, settings, workers, course)
    return PairTrainer(
        model=loaded.model,
        args=DPOConfig(**_arguments(settings, loaded, scratch), beta=settings.beta),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(asked),
        processing_class=loaded.tokenizer,
    )


MAKERS: dict[str, Callable[..., Any]] = {"answer": _answers, "preference": _preferences}


def _begin(
    rows: list[Any], asked: list[Any], dropped: int, settings: FinetuneSettings, workers: int, course: Course
) -> None:
    if not rows or not asked:
        part = "tune" if rows else "train"
        raise UserError(
            f"finetune.max_length: every example of the {part} part is longer than {settings.max_length:,} tokens; "
            "raise it"
        )
    if ray.train.get_context().get_world_rank() == 0:
        course.tell(
            {"kind": "begin", "sequences": len(rows), "dropped": dropped, "steps": _steps(len(rows), settings, workers)}
        )


def _steps(rows: int, settings: FinetuneSettings, workers: int) -> int:
    return math.ceil(rows / (settings.batch_size * settings.accumulation * workers))


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Says how it goes, evaluates when it is time, keeps the best weights, and hands checkpoints to Ray."""

    def __init__(self, course: Course, trainer: Any, scratch: Path) -> None:
        self._course, self._trainer, self._scratch = course, trainer, scratch
        self._first = ray.train.get_context().get_world_rank() == 0
        self._began: tuple[float, int] | None = None
        self._best = scratch / BEST
        self.reported = 0

    def resume(self) -> str | None:
        """The trainer's own checkpoint to go on from, None to begin."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as found:
            shutil.copytree(Path(found, TRAINER), self._scratch / TRAINER, dirs_exist_ok=True)
            if Path(found, BEST).is_dir():
                shutil.copytree(Path(found, BEST), self._best, dirs_exist_ok=True)
        # Preference tuning's reference, which is as it was at the start: the trainer would load it and nothing else.
        shutil.rmtree(self._scratch / TRAINER / "ref", ignore_errors=True)
        if self._first:
            self._course.tell({"kind": "resume"})
        return str(self._scratch / TRAINER)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """What the model knows before it learns anything."""
        if state.global_step == 0:
            self._trainer.evaluate()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """The clock runs from the first step on."""
        self._began = self._began or (time.monotonic(), state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluates so often in an epoch, evenly, and at the end."""
        settings = self._course.settings
        times = settings.epochs * settings.evaluations
        due = {round(state.max_steps * (number + 1) / times) for number in range(times)}
        control.should_evaluate = state.global_step in due
        control.should_save = control.should_evaluate or state.global_step % settings.checkpoint_steps == 0

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """One line for the driver."""
        if not self._first or "loss" not in logs or self._began is None:
            return
        seconds, steps = time.monotonic() - self._began[0], state.global_step - self._began[1]
        told = {"kind": "step", "step": state.global_step, "of": state.max_steps, "loss": logs["loss"]}
        told |= {"tokens_per_second": self._rate(state), "seconds": seconds, "steps": steps}
        self._course.tell(told)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        """Keeps the weights that do best on the tune part; stops after so many evaluations without better ones."""
        if self._first:
            told = {"kind": "tune", "step": state.global_step, "loss": metrics["eval_loss"]}
            self._course.tell(told | {"accuracy": metrics.get("eval_accuracy")})
        since = self._since_best(state)
        if since == 0 and self._first:
            shutil.rmtree(self._best, ignore_errors=True)
            self._trainer.accelerator.unwrap_model(self._trainer.model).save_pretrained(
                self._best, selected_adapters=["default"]
            )
        if since is not None and since >= self._course.settings.patience:
            control.should_training_stop = control.should_save = True

    def _since_best(self, state: TrainerState) -> int | None:
        """Evaluations since the best one; None before the first of what was learnt.

        The very first evaluation is of the model before it learnt anything: there are no weights to keep of it.
        """
        losses = [log["eval_loss"] for log in state.log_history if "eval_loss" in log][1:]
        return len(losses) - 1 - losses.index(min(losses)) if losses else None

    def is_over(self, checkpoint: str) -> bool:
        """Whether a checkpoint is one at which training was stopped early."""
        since = self._since_best(TrainerState.load_from_json(f"{checkpoint}/{TRAINER_STATE}"))
        return since is not None and since >= self._course.settings.patience

    def _rate(self, state: TrainerState) -> float | None:
        """Tokens a second of this worker since it began, evaluations included; padding does not count."""
        counts = [log["worker_tokens"] for log in state.log_history if "worker_tokens" in log]  # of letters alone
        if self._began is None or not counts:
            return None
        return float(counts[-1]) / max(1e-9, time.monotonic() - self._began[0])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """After the trainer wrote its own checkpoint."""
        self.report(state)

    def report(self, state: TrainerState) -> None:
        """Every worker takes part; the first hands over the checkpoint."""
        self.reported += 1
        metrics = {"step": state.global_step, "memory_gib": _peak_memory(), "tokens_per_second": self._rate(state)}
        metrics |= {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}
        if not self._first:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            own = self._scratch / "out" / f"checkpoint-{state.global_step}"
            shutil.copytree(own if own.is_dir() else self._scratch / TRAINER, Path(folder, TRAINER))
            if self._best.is_dir():
                shutil.copytree(self._best, Path(folder, BEST))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))
        shutil.rmtree(own, ignore_errors=True)


def _peak_memory() -> float:
    """GiB at most so far: of the GPU, or of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
