"""The reporter beside a trainer: when it evaluates, which weights it keeps, and when it stops."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.job_spec import BEST, Message, TrainJobSpec


class Model:
    """Stands for a peft model: saving it writes the loss that it had."""

    def __init__(self) -> None:
        self.loss = 0.0

    def save_pretrained(self, folder: Path, selected_adapters: Sequence[str]) -> None:
        """See PeftModel."""
        folder.mkdir(parents=True)
        (folder / "loss").write_text(str(self.loss))


class Training:
    """A reporter with all that stands around it."""

    def __init__(self, scratch: Path, **settings: Any) -> None:
        from transformers import TrainerControl, TrainerState  # slow, and every process of the tests collects this file

        from codemmlu.training.callback import TrainingCallback

        self.scratch, self.messages = scratch, list[Message]()
        self.model = Model()
        given = FinetuneSettings(model="m", **settings)
        course = TrainJobSpec("/run", "/models/m", None, "/cache", None, "peft", given, self.messages.append)
        unwrap = SimpleNamespace(unwrap_model=lambda model: model)
        self.state, self.control = TrainerState(max_steps=20), TrainerControl()
        self.args: Any = None
        self.reporter = TrainingCallback(course, SimpleNamespace(model=self.model, accelerator=unwrap), scratch)

    def evaluates(self, step: int, loss: float) -> None:
        """Have an evaluation end."""
        self.model.loss, self.state.global_step = loss, step
        self.state.log_history.append({"step": step, "eval_loss": loss})
        self.reporter.on_evaluate(self.args, self.state, self.control, {"eval_loss": loss, "eval_accuracy": 0.5})

    def best(self) -> float:
        """Return the loss of the weights that are kept."""
        return float((self.scratch / BEST / "loss").read_text())


@pytest.fixture(autouse=True)
def _first_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be the first of the workers, which alone tells and keeps."""
    monkeypatch.setattr("ray.train.get_context", lambda: SimpleNamespace(get_world_rank=lambda: 0))


def test_the_weights_that_do_best_are_kept(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.evaluates(0, 1.0)
    assert not (tmp_path / BEST).exists(), "before anything is learnt there are no weights"
    for step, loss in enumerate((1.5, 1.2, 1.3), 1):
        training.evaluates(step, loss)
    assert training.best() == 1.2
    losses = [message["loss"] for message in training.messages if message["kind"] == "tune"]
    assert losses == [1.0, 1.5, 1.2, 1.3]


def test_training_stops_after_evaluations_without_a_better_one(tmp_path: Path) -> None:
    training = Training(tmp_path, patience=2)
    for step, loss in enumerate((1.0, 1.5, 1.6, 1.4, 1.4)):
        training.evaluates(step, loss)
        assert not training.control.should_training_stop
    training.evaluates(5, 1.4)
    assert (training.control.should_training_stop, training.control.should_save) == (True, True)
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": training.state.log_history}))
    assert training.reporter.is_over(str(tmp_path))
    assert not Training(tmp_path, patience=3).reporter.is_over(str(tmp_path))


def test_evaluations_are_spread_evenly_over_the_epochs(tmp_path: Path) -> None:
    training = Training(tmp_path, epochs=2, evaluations=2, checkpoint_steps=7)
    evaluated, saved = list[int](), list[int]()
    for step in range(1, 21):
        training.state.global_step = step
        training.reporter.on_step_end(training.args, training.state, training.control)
        evaluated += [step] * training.control.should_evaluate
        saved += [step] * training.control.should_save
    assert evaluated == [5, 10, 15, 20]
    assert saved == [5, 7, 10, 14, 15, 20]


def test_a_loss_that_is_no_number_is_told(tmp_path: Path) -> None:
    training = Training(tmp_path, learning_rate=1e30)
    with pytest.raises(UserError, match=r"^finetune\.model: before anything is learnt the loss of /models/m on the"):
        training.evaluates(0, float("nan"))
    with pytest.raises(UserError, match=r"^finetune\.learning_rate: with 1e\+30 the loss on the tune part is inf"):
        training.evaluates(3, float("inf"))
    assert not (tmp_path / BEST).exists()
