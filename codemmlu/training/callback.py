"""The callback of the trainer: progress, evaluations, the best weights, and checkpoints for Ray.

A checkpoint holds the trainer's own checkpoint (`trainer/`: weights, optimizer, schedule, random states, history) and
the best weights so far (`best/`).
"""

import math
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import ray.train
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from codemmlu.errors import UserError, redact_credentials
from codemmlu.training.job_spec import BEST, TRAINER, TrainJobSpec

_STATE = "trainer_state.json"


class TrainingCallback(TrainerCallback):  # type: ignore[misc]
    """A trainer callback for progress, evaluations, the best weights and Ray's checkpoints."""

    def __init__(self, spec: TrainJobSpec, trainer: Any, scratch: Path) -> None:
        """Keep the job, the trainer, and a folder for the files that a checkpoint is made of."""
        self._spec, self._trainer, self._scratch = spec, trainer, scratch
        self._is_first = ray.train.get_context().get_world_rank() == 0
        self._began: tuple[float, int] | None = None
        self._best = scratch / BEST
        self._reported = 0

    def resume(self) -> str | None:
        """Unpack Ray's checkpoint, and return the path of the trainer's own checkpoint; None to begin."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            return None
        with checkpoint.as_directory() as folder:
            shutil.copytree(Path(folder, TRAINER), self._scratch / TRAINER, dirs_exist_ok=True)
            if Path(folder, BEST).is_dir():
                shutil.copytree(Path(folder, BEST), self._best, dirs_exist_ok=True)
        # The reference of preference tuning is the same as at the start. Were it here, the trainer would load it and
        # nothing else.
        shutil.rmtree(self._scratch / TRAINER / "ref", ignore_errors=True)
        if self._is_first:
            self._spec.tell({"kind": "resume"})
        return str(self._scratch / TRAINER)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate the model before it has learnt anything."""
        if state.global_step == 0:
            self._trainer.evaluate()

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Start the clock at the first step."""
        self._began = self._began or (time.monotonic(), state.global_step)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Schedule `evaluations` evenly spaced evaluations per epoch, the last one at the end, and saves."""
        settings = self._spec.settings
        times = settings.epochs * settings.evaluations
        due = {round(state.max_steps * (number + 1) / times) for number in range(times)}
        control.should_evaluate = state.global_step in due
        control.should_save = control.should_evaluate or state.global_step % settings.checkpoint_steps == 0

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        """Tell the driver the loss and the speed."""
        if not self._is_first or "loss" not in logs or self._began is None:
            return
        seconds, steps = time.monotonic() - self._began[0], state.global_step - self._began[1]
        self._spec.tell(
            {
                "kind": "step",
                "step": state.global_step,
                "of": state.max_steps,
                "loss": logs["loss"],
                "tokens_per_second": self._rate(state),
                "seconds": seconds,
                "steps": steps,
            }
        )

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: dict[str, float], **_: Any
    ) -> None:
        """Keep the weights with the lowest loss on the tune part, and stop when none are better.

        Training stops after `patience` evaluations without better weights.

        Raises:
            UserError: The loss is no finite number any more, so that no weights are the best.
        """
        if not math.isfinite(metrics["eval_loss"]):
            if state.global_step == 0:
                weights = self._spec.start or self._spec.source
                raise UserError(
                    f"before anything is learnt the loss of {redact_credentials(weights)} on the tune "
                    f"part is {metrics['eval_loss']}: "
                    "its numbers overflow in this machine's precision; take another model",
                    key="finetune.model",
                )
            raise UserError(
                f"with {self._spec.settings.learning_rate} the loss on the tune part is "
                f"{metrics['eval_loss']} after step {state.global_step:,}; lower it",
                key="finetune.learning_rate",
            )
        if self._is_first:
            accuracy = metrics.get("eval_accuracy")
            self._spec.tell(
                {"kind": "tune", "step": state.global_step, "loss": metrics["eval_loss"], "accuracy": accuracy}
            )
        since = self._since_best(state)
        if since == 0 and self._is_first:
            shutil.rmtree(self._best, ignore_errors=True)
            self._trainer.accelerator.unwrap_model(self._trainer.model).save_pretrained(
                self._best, selected_adapters=["default"]
            )
        if since is not None and since >= self._spec.settings.patience:
            control.should_training_stop = control.should_save = True

    def _since_best(self, state: TrainerState) -> int | None:
        """Return the number of evaluations since the best one; None before training was evaluated."""
        # The very first evaluation is of the model before it learnt anything: there are no weights of it to keep.
        losses = [log["eval_loss"] for log in state.log_history if "eval_loss" in log][1:]
        return len(losses) - 1 - losses.index(min(losses)) if losses else None

    def is_over(self, checkpoint: str) -> bool:
        """Return whether training was stopped early at a checkpoint."""
        since = self._since_best(TrainerState.load_from_json(f"{checkpoint}/{_STATE}"))
        return since is not None and since >= self._spec.settings.patience

    def close(self, checkpoint: str | None) -> None:
        """Report a training that was at its end already when it was resumed, so that Ray has a result."""
        if self._reported == 0:
            self.report(TrainerState.load_from_json(f"{checkpoint}/{_STATE}") if checkpoint else self._trainer.state)

    def _rate(self, state: TrainerState) -> float | None:
        """Return this worker's tokens per second since the first step, evaluations included, without padding."""
        # Only the trainers of training/trainers.py log the count.
        counts = [log["worker_tokens"] for log in state.log_history if "worker_tokens" in log]
        if self._began is None or not counts:
            return None
        return float(counts[-1]) / max(1e-9, time.monotonic() - self._began[0])

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Report the state that the trainer has just written as its own checkpoint."""
        self.report(state)

    def report(self, state: TrainerState) -> None:
        """Report a state to Ray; every worker takes part, and the first hands over the checkpoint."""
        self._reported += 1
        metrics = {"step": state.global_step, "memory_gib": _peak_memory(), "tokens_per_second": self._rate(state)}
        metrics |= {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"}
        if not self._is_first:
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
    """Return the peak memory so far, in GiB: of the GPU, or of this process."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated() / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
