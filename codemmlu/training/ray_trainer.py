"""The training with Ray Train: training examples go in, published weights come out.

examples -> [Ray Train: N workers run training.train_loop] -> checkpoints in the run's storage -> adapters/NAME

Ray keeps the state of a training in a folder whose name is a hash of all that is learnt, so that the same command goes
on where it was stopped, and another one begins anew.
"""

import importlib
import importlib.metadata
import importlib.util
import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty
from typing import Any, TypedDict

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from codemmlu.cluster import locks, session, tasks
from codemmlu.engine import lora, model_source
from codemmlu.engine.adapter_store import Manifest, points, publish, trained_layers, what_is_learnt
from codemmlu.errors import EngineDied, Progress, UserError, is_disk_full
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir, disk_is_full
from codemmlu.training import backends, faults
from codemmlu.training.job_spec import BEST, FAULT, LESSONS, TRAINER, Message, TrainJobSpec, too_large
from codemmlu.training.merging import merge_adapter
from codemmlu.training.training_set import TrainingSet

FOLDER = "training"
_RETRIES = 3  # times that workers are started again after they died
_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
_SECONDS_BETWEEN_LINES = 15.0


@dataclass(frozen=True)
class TrainJob:
    """The inputs of a training.

    Attributes:
        settings: The recipe's section `finetune`.
        model: The model that the weights are trained for.
        training_set: The examples.
        fingerprint: Fingerprint of all that determines the weights, see `fingerprint` in training_set.py.
        start: Directory or address of the LoRA weights to go on from; None: new weights.
        trust_remote_code: The recipe's setting of the model.
    """

    settings: FinetuneSettings
    model: model_source.Model
    training_set: TrainingSet
    fingerprint: str
    start: str | None = None
    trust_remote_code: bool = False


def train(progress: Progress, run: RunDir, job: TrainJob, gpus: str | None = None) -> Manifest:
    """Train, or go on with a training that was stopped, and publish the best weights.

    EngineDied passes through when workers kept dying.

    Args:
        progress: Where the training reports to the user.
        run: The run directory.
        job: The training.
        gpus: The recipe's `gpus`.

    Returns:
        The manifest of the published weights.

    Raises:
        UserError: The training needs another recipe or machine, as the message says.
    """
    resources = session.join(gpus)
    locks.refuse_unshared(run)
    settings, model = job.settings, job.model
    on_gpu = resources.gpus > 0
    if on_gpu and resources.gpus < settings.workers:
        raise UserError(
            f"{settings.workers} need a GPU each, there are {resources.gpus}; lower it", key="finetune.workers"
        )
    backend, why = backends.choose(settings, on_gpu, _is_installed)
    folder = run.below(f"{FOLDER}/{job.fingerprint[:16]}")
    if not folder.exists(LESSONS):
        if run.has_folder(FOLDER):
            progress.say("finetune: what another recipe left half trained is removed")
        run.clear(FOLDER)
    folder.clear(FAULT)
    folder.write_table(LESSONS, job.training_set.table)
    workers = f"{settings.workers} worker{'s' * (settings.workers > 1)} on {'GPU' if on_gpu else 'the CPU'}"
    progress.say(
        f"finetune: {job.training_set.train:,} examples, {settings.epochs} epochs; {workers}; {backend}: {why}"
    )
    with _progress(progress, settings) as tell:
        spec = TrainJobSpec(
            folder.address,
            model.source,
            model.revision,
            model_source.cache_folder(),
            job.start,
            backend,
            settings,
            tell,
            job.trust_remote_code,
        )
        result = _fit(spec, folder, on_gpu)
    metrics = result.metrics or {}
    cost = _Cost(
        device=metrics["device"],
        memory_gib=metrics.get("memory_gib"),
        tokens_per_second=metrics.get("tokens_per_second"),
    )
    with result.checkpoint.as_directory() as checkpoint:
        manifest = _publish(run, job, backend, Path(checkpoint), cost)
    run.clear(FOLDER)
    return manifest


def _cores_each(workers: int) -> int:
    """Return the most cores that each worker can have; UserError where there are too few cores."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    for each in range(max(cores), 0, -1):
        if sum(count // each for count in cores) >= workers:
            return each
    raise UserError(f"{workers} need a core each, there are {sum(cores)}; lower it", key="finetune.workers")


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _run_worker(config: dict[str, Any]) -> None:
    """Run the training loop in a worker, which alone loads the libraries: that takes seconds."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if config["course"].backend == "unsloth":
        importlib.import_module("unsloth")  # before transformers, which it changes
    from codemmlu.training.train_loop import run_worker

    run_worker(config["course"])


def _fit(spec: TrainJobSpec, folder: RunDir, on_gpu: bool) -> Any:
    """Run Ray Train to the end, and return its result. Its errors become UserError or EngineDied."""
    settings = spec.settings
    each = {"CPU": 1.0, "GPU": 1.0} if on_gpu else {"CPU": float(_cores_each(settings.workers))}
    trainer = TorchTrainer(
        _run_worker,
        train_loop_config={"course": spec},
        scaling_config=ray.train.ScalingConfig(num_workers=settings.workers, use_gpu=on_gpu, resources_per_worker=each),
        run_config=ray.train.RunConfig(
            name="ray",
            storage_path=folder.base,
            storage_filesystem=folder.filesystem,
            failure_config=ray.train.FailureConfig(max_failures=_RETRIES),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        result = trainer.fit()
    except SystemExit:  # Ray Train turns Ctrl-C into an exit with code 0
        raise KeyboardInterrupt from None
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        if text := faults.read(folder):
            raise UserError(text) from error
        if is_disk_full(str(error)):
            raise UserError(disk_is_full(folder.shown, folder.base)) from error
        lower = str(error).lower()
        if "outofmemory" in lower or "out of memory" in lower:  # Ray ends a worker before the machine's memory is full
            raise too_large(settings) from error
        last = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
        raise EngineDied(f"training stopped: {last[0] if last else type(error).__name__}") from error
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    if fault := faults.read(folder):
        raise UserError(fault)
    return result


@contextmanager
def _progress(progress: Progress, settings: FinetuneSettings) -> Iterator[Any]:
    """Give the workers a queue for messages about their progress, which become lines for the user."""
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": session.here()})
    ended = threading.Event()

    def listen() -> None:
        speaker = _Speaker(progress, settings)
        while True:
            try:
                speaker.say(queue.get(timeout=0.5))
            except Empty:
                if ended.is_set():
                    return
            except ray.exceptions.RayError:
                return

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield queue.put
    finally:
        ended.set()
        listener.join(timeout=5)
        queue.shutdown(force=True)


class _Speaker:
    """The writer of a worker's messages as lines for the user."""

    def __init__(self, progress: Progress, settings: FinetuneSettings) -> None:
        self._progress, self._settings = progress, settings
        self._last_line = -_SECONDS_BETWEEN_LINES

    def say(self, message: Message) -> None:
        """Write the line of one message; steps have a line every _SECONDS_BETWEEN_LINES, and at the end."""
        say = self._progress.say
        if message["kind"] == "begin":
            dropped = f"; {message['dropped']:,} are too long and left out" if message["dropped"] else ""
            say(f"finetune: {message['sequences']:,} sequences in {message['steps']:,} steps{dropped}")
        elif message["kind"] == "resume":
            say("finetune: goes on from its last checkpoint")
        elif message["kind"] == "tune":
            right = "" if message["accuracy"] is None else f", {message['accuracy']:.3f} right"
            say(f"finetune: after step {message['step']:,} loss {message['loss']:.3f}{right} on the tune part")
        elif message["seconds"] - self._last_line >= _SECONDS_BETWEEN_LINES or message["step"] == message["of"]:
            self._last_line = message["seconds"]
            left = message["seconds"] / message["steps"] * (message["of"] - message["step"])
            rate = f", {message['tokens_per_second']:,.0f} tokens/s" if message["tokens_per_second"] else ""
            say(
                f"finetune: step {message['step']:,} of {message['of']:,}, loss {message['loss']:.3f}{rate}, "
                f"{left // 60:.0f} min {left % 60:02.0f} s left"
            )


class _Cost(TypedDict):
    """What a training took, as its manifest keeps it."""

    device: str
    memory_gib: float | None
    tokens_per_second: float | None


def _publish(run: RunDir, job: TrainJob, backend: str, checkpoint: Path, cost: _Cost) -> Manifest:
    """Publish the best weights of a checkpoint."""
    settings, model = job.settings, job.model
    state = json.loads((checkpoint / TRAINER / "trainer_state.json").read_text(encoding="utf-8"))
    train, tune = points(state["log_history"])
    best = min(tune[1:], key=lambda point: point.loss)
    learnt = what_is_learnt(settings)
    if settings.start:  # the weights keep the shape of those they started from, whatever the settings say
        config = json.loads((checkpoint / BEST / lora.CONFIG).read_text(encoding="utf-8"))
        learnt |= {"rank": config["r"], "alpha": config["lora_alpha"], "targets": config["target_modules"]}
    manifest = Manifest(
        name=settings.name,
        fingerprint=job.fingerprint,
        base=model.source,
        revision=model.revision,
        base_fingerprint=model.fingerprint,
        examples=job.training_set.fingerprint,
        train_examples=job.training_set.train,
        steps=state["global_step"],
        best_step=best.step,
        backend=backend,
        **cost,
        settings=learnt,
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
        layers=trained_layers(checkpoint / BEST),
        contradicted=tuple(map(asdict, job.training_set.contradicted)),
        train=train,
        tune=tune,
    )
    publish(run, checkpoint / BEST, job.training_set.learnt, manifest)
    return manifest


def merge(run: RunDir, settings: FinetuneSettings, model: model_source.Model, trust_remote_code: bool = False) -> str:
    """Merge the published weights into the model in a Ray task, and return where the merged model is."""
    return str(tasks.call(merge_adapter, run.address, settings.name, model, trust_remote_code))
