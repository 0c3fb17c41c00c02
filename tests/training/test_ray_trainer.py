"""The Ray Train plan: how workers are placed, what a training leaves, and what its failures are called.

Ray Train is stood for by `Trainer`; one real training is in tests/training/test_finetune.py.
"""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import ray
import ray.train

from codemmlu.cli.console import Terminal
from codemmlu.cluster import locks, session
from codemmlu.engine.adapter_store import Manifest
from codemmlu.engine.lora import LEARNT
from codemmlu.engine.model_source import Model
from codemmlu.engine.placement.gpus import Node, Resources
from codemmlu.errors import EngineDied, UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir
from codemmlu.training import ray_trainer
from codemmlu.training.encoding import examples_to_table
from codemmlu.training.job_spec import BEST, FAULT, LESSONS, TRAINER, Stepped, TrainJobSpec
from codemmlu.training.training_set import TrainingSet
from tests.support.finetunes import weights_in
from tests.support.rows import question

NAME = "0123456789abcdef" * 2
QUESTIONS = [question(f"t{n}") for n in range(3)]
TABLE = examples_to_table(QUESTIONS, ["train", "train", "tune"], [[], [], []], {})
CURRICULUM = TrainingSet(TABLE, 2, 1, 0, 0, frozenset({"k1", "k2"}), "examples")
MODEL = Model("/models/m", None, "weights", None, {})
HISTORY = [
    {"step": 0, "eval_loss": 1.5, "eval_accuracy": 0.25},
    {"step": 1, "loss": 1.4},
    {"step": 1, "eval_loss": 1.2, "eval_accuracy": 0.5},
    {"step": 2, "loss": 1.3},
    {"step": 2, "eval_loss": 1.3, "eval_accuracy": 0.5},
]


class Trainer:
    """Stands for Ray's TorchTrainer. `fit` does what a test says, and otherwise leaves a finished training."""

    made: "ClassVar[list[Trainer]]"
    ends: "ClassVar[Callable[[Trainer], None]]"
    scratch: Path
    adapter: dict[str, Any]

    def __init__(self, loop: Any, *, train_loop_config: Any, scaling_config: Any, run_config: Any) -> None:
        self.course: TrainJobSpec = train_loop_config["course"]
        self.scaling, self.run = scaling_config, run_config
        self.made.append(self)

    def fit(self) -> Any:
        """See TorchTrainer."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Ray does
        assert RunDir(self.course.address).exists(LESSONS)
        self.ends()
        state = {"global_step": 2, "log_history": HISTORY}
        (self.scratch / TRAINER).mkdir(parents=True)
        (self.scratch / TRAINER / "trainer_state.json").write_text(json.dumps(state))
        weights_in(self.scratch / BEST, **self.adapter)
        metrics = {"device": "CPU", "memory_gib": 2.0, "tokens_per_second": 7.0}
        return SimpleNamespace(metrics=metrics, checkpoint=ray.train.Checkpoint.from_directory(str(self.scratch)))


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Trainer]:
    """Ray Train that ends well, on one node of two cores."""

    class Fresh(Trainer):
        made, scratch, adapter = [], tmp_path / "scratch", {}

        def ends(self) -> None:
            pass

    @contextmanager
    def progress(*_: object) -> Iterator[Callable[[dict[str, Any]], None]]:
        yield lambda _: None

    monkeypatch.setattr(ray_trainer, "TorchTrainer", Fresh)
    monkeypatch.setattr(ray_trainer, "_progress", progress)
    monkeypatch.setattr(session, "join", lambda gpus: Resources((Node(2, "T4"),) if gpus else (), cpus=2))
    monkeypatch.setattr(locks, "refuse_unshared", lambda run: None)
    nodes(monkeypatch, 2)
    return Fresh


def nodes(monkeypatch: pytest.MonkeyPatch, *cores: int) -> None:
    """Have nodes of so many cores, and one that has gone."""
    alive = [{"Alive": True, "Resources": {"CPU": float(count)}} for count in cores]
    monkeypatch.setattr(ray, "nodes", lambda: [*alive, {"Alive": False, "Resources": {"CPU": 64.0}}])


def train(run: RunDir, name: str = NAME, gpus: str | None = None, **settings: Any) -> Manifest:
    """Train the curriculum of this file."""
    given = FinetuneSettings(model="m", **settings)
    job = ray_trainer.TrainJob(given, MODEL, CURRICULUM, name, given.start)
    return ray_trainer.train(Terminal(), run, job, gpus)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(str(tmp_path / "run"))
    made.create()
    return made


def test_the_best_weights_are_published_with_their_history(trainer: type[Trainer], run: RunDir) -> None:
    handler = signal.getsignal(signal.SIGINT)
    manifest = train(run, rank=8)
    assert (manifest.fingerprint, manifest.base_fingerprint, manifest.examples) == (NAME, "weights", "examples")
    assert (manifest.steps, manifest.best_step, manifest.train_examples) == (2, 1, 2)
    assert [(point.step, point.loss) for point in manifest.train] == [(1, 1.4), (2, 1.3)]
    assert [(point.step, point.loss, point.accuracy) for point in manifest.tune][:2] == [(0, 1.5, 0.25), (1, 1.2, 0.5)]
    assert (manifest.device, manifest.memory_gib, manifest.tokens_per_second) == ("CPU", 2.0, 7.0)
    assert (manifest.backend, manifest.settings["rank"]) == ("peft", 8)
    assert Manifest.model_validate_json(run.read("adapters/tuned/manifest.json")) == manifest
    assert json.loads(run.read(f"adapters/tuned/{LEARNT}")) == ["k1", "k2"]
    assert not run.has_folder("training"), "checkpoints are cleared away"
    assert signal.getsignal(signal.SIGINT) == handler, "Ctrl-C is handled as before"


def test_the_shape_of_the_starting_weights_is_kept(trainer: type[Trainer], run: RunDir) -> None:
    trainer.adapter = {"r": 4, "lora_alpha": 9, "target_modules": ["q_proj"]}
    manifest = train(run, rank=64, start="/weights")
    shape = {name: manifest.settings[name] for name in ("rank", "alpha", "targets")}
    assert shape == {"rank": 4, "alpha": 9, "targets": ["q_proj"]}
    assert trainer.made[0].course.start == "/weights"


def test_a_training_that_was_stopped_goes_on_in_its_folder(
    trainer: type[Trainer], run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(self: Trainer) -> None:
        folder = RunDir(self.course.address)
        seen.append((folder.exists("ray/state"), folder.exists(FAULT)))
        folder.write("ray/state", b"")
        folder.write(FAULT, b"a mistake that was mended since")
        if len(seen) < 3:
            raise SystemExit

    seen: list[tuple[bool, bool]] = []
    trainer.ends = ends
    for name in (NAME, NAME):
        with pytest.raises(KeyboardInterrupt):
            train(run, name)
    assert seen == [(False, False), (True, False)], "a fault of before counts no longer"
    assert "half trained" not in capsys.readouterr().out
    with pytest.raises(UserError, match="mended"):
        train(run, "another" + NAME)
    assert seen[2] == (False, False)
    assert "finetune: what another recipe left half trained is removed\n" in capsys.readouterr().out
    assert len({one.course.address for one in trainer.made}) == 2
    assert {one.run.name for one in trainer.made} == {"ray"}


def test_a_mistake_that_a_worker_wrote_down_is_told(trainer: type[Trainer], run: RunDir) -> None:
    trainer.ends = lambda self: RunDir(self.course.address).write(FAULT, b"finetune.max_length: raise it")
    with pytest.raises(UserError, match=r"^finetune\.max_length: raise it$"):
        train(run)
    assert not run.exists("adapters/tuned/manifest.json")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("Worker failed\nValueError: bad\n", EngineDied, r"^training stopped: ValueError: bad$"),
        ("", EngineDied, r"^training stopped: RayError$"),
        ("ray.exceptions.OutOfMemoryError: killed", UserError, r"^finetune\.batch_size: 8 sequences of up to 8,092"),
        ("CUDA out of memory", UserError, r"^finetune\.batch_size: "),
    ],
)
def test_why_a_training_failed_is_told(
    trainer: type[Trainer], run: RunDir, text: str, kind: type[Exception], message: str
) -> None:
    def ends(self: Trainer) -> None:
        raise ray.exceptions.RayError(text)

    trainer.ends = ends
    with pytest.raises(kind, match=message):
        train(run)


@pytest.mark.parametrize(
    ("cores", "workers", "each"), [((2,), 1, 2), ((2,), 2, 1), ((8,), 3, 2), ((4, 2), 2, 2), ((4, 2), 1, 4)]
)
def test_workers_share_the_cores(
    trainer: type[Trainer],
    run: RunDir,
    monkeypatch: pytest.MonkeyPatch,
    cores: tuple[int, ...],
    workers: int,
    each: int,
) -> None:
    nodes(monkeypatch, *cores)
    train(run, workers=workers)
    scaling = trainer.made[0].scaling
    assert (scaling.num_workers, scaling.use_gpu, scaling.resources_per_worker) == (workers, False, {"CPU": each})


def test_more_workers_than_cores_or_gpus_are_refused(trainer: type[Trainer], run: RunDir) -> None:
    with pytest.raises(UserError, match=r"^finetune\.workers: 3 need a core each, there are 2; lower it$"):
        train(run, workers=3)
    with pytest.raises(UserError, match=r"^finetune\.workers: 3 need a GPU each, there are 2; lower it$"):
        train(run, workers=3, gpus="2xT4")
    assert trainer.made == []
    train(run, workers=2, gpus="2xT4")
    assert (trainer.made[0].scaling.use_gpu, trainer.made[0].scaling.num_workers) == (True, 2)


def test_the_progress_of_workers_becomes_lines(capsys: pytest.CaptureFixture[str]) -> None:
    speaker = ray_trainer._Speaker(Terminal(), FinetuneSettings(model="m"))
    step = Stepped(kind="step", of=40, loss=1.25, tokens_per_second=1234.5, step=1, seconds=2.0, steps=1)
    speaker.say({"kind": "begin", "sequences": 1200, "steps": 40, "dropped": 3})
    speaker.say({"kind": "resume"})
    speaker.say({"kind": "tune", "step": 0, "loss": 1.5, "accuracy": None})
    speaker.say(step)
    speaker.say({**step, "step": 2, "seconds": 4.0, "steps": 2})  # too soon for another line
    speaker.say({**step, "step": 10, "seconds": 20.0, "steps": 10, "tokens_per_second": None})
    speaker.say({"kind": "tune", "step": 10, "loss": 1.2, "accuracy": 0.5})
    speaker.say({**step, "step": 40, "seconds": 21.0, "steps": 40})  # the last one always has a line
    assert capsys.readouterr().out.splitlines() == [
        "finetune: 1,200 sequences in 40 steps; 3 are too long and left out",
        "finetune: goes on from its last checkpoint",
        "finetune: after step 0 loss 1.500 on the tune part",
        "finetune: step 1 of 40, loss 1.250, 1,234 tokens/s, 1 min 18 s left",
        "finetune: step 10 of 40, loss 1.250, 1 min 00 s left",
        "finetune: after step 10 loss 1.200, 0.500 right on the tune part",
        "finetune: step 40 of 40, loss 1.250, 1,234 tokens/s, 0 min 00 s left",
    ]
