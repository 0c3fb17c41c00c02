"""The Ray Train plan of a finetune: lessons go in, published weights come out.

lessons -> [Ray Train: N workers run training.loop] -> checkpoints in the run's storage -> adapters/NAME

Ray keeps the state of a training under its name; the name is a hash of all that is learnt, so that the same command
goes on where it was stopped, and another one begins anew.
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
from pathlib import Path
from queue import Empty
from tempfile import TemporaryDirectory
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from codemmlu.cluster import locks, session, tasks
from codemmlu.engine import lora, model_source
from codemmlu.engine.adapter_store import Manifest, folder_of, points, publish, what_is_learnt
from codemmlu.errors import EngineDied, Progress, UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir
from codemmlu.training import backends
from codemmlu.training.job_spec import BEST, FAULT, LESSONS, TRAINER, TrainJobSpec, too_large
from codemmlu.training.training_set import TrainingSet

FOLDER = "training"
_RETRIES = 3  # times that workers which died are started again
_LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes")
_SECONDS_BETWEEN_LINES = 15.0


def train(
    progress: Progress,
    run: RunDir,
    settings: FinetuneSettings,
    model: model_source.Model,
    training_set: TrainingSet,
    name: str,
    start: str | None = None,
    gpus: str | None = None,
) -> Manifest:
    """Trains, or goes on, and publishes the best weights.

    name: its curriculum.fingerprint; start: where the weights are that it goes on from; gpus: as in the recipe

    Raises UserError for what the person can change, EngineDied when workers kept dying.
    """
    resources = session.join(gpus)
    locks.refuse_unshared(run)
    on_gpu = resources.gpus > 0
    if on_gpu and resources.gpus < settings.workers:
        raise UserError(f"finetune.workers: {settings.workers} need a GPU each, there are {resources.gpus}; lower it")
    backend, why = backends.choose(settings, on_gpu, _is_installed)
    folder = run.below(f"{FOLDER}/{name[:16]}")
    if not folder.exists(LESSONS):
        if run.has_folder(FOLDER):
            progress.say("finetune: what another recipe left half trained is removed")
        run.clear(FOLDER)
    folder.clear(FAULT)
    folder.write_table(LESSONS, training_set.table)
    where = f"{settings.workers} worker{'s' * (settings.workers > 1)} on {'GPU' if on_gpu else 'the CPU'}"
    progress.say(f"finetune: {training_set.train:,} examples, {settings.epochs} epochs; {where}; {backend}: {why}")
    with _progress(progress, settings) as tell:
        course = TrainJobSpec(
            folder.address,
            model.source,
            model.revision,
            model_source.cache_folder(),
            start,
            backend,
            settings,
            tell,
        )
        result = _fitted(course, settings, folder, on_gpu)
    cost = {one: (result.metrics or {}).get(one) for one in ("device", "memory_gib", "tokens_per_second")}
    with result.checkpoint.as_directory() as found:
        manifest = _published(run, settings, model, training_set, name, backend, Path(found), cost)
    run.clear(FOLDER)
    return manifest


def _cores_each(workers: int) -> int:
    """The most that all workers can have. Raises UserError where there are more workers than cores."""
    cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    for each in range(max(cores), 0, -1):
        if sum(its // each for its in cores) >= workers:
            return each
    raise UserError(f"finetune.workers: {workers} need a core each, there are {sum(cores)}; lower it")


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _attend(config: dict[str, Any]) -> None:
    """In a worker: what it needs takes seconds to load, and is loaded there alone."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    if config["course"].backend == "unsloth":
        importlib.import_module("unsloth")  # before transformers, which it changes
    from codemmlu.training.train_loop import run_worker

    run_worker(config["course"])


def _fitted(course: TrainJobSpec, settings: FinetuneSettings, folder: RunDir, on_gpu: bool) -> Any:
    each = {"CPU": 1.0, "GPU": 1.0} if on_gpu else {"CPU": float(_cores_each(settings.workers))}
    trainer = TorchTrainer(
        _attend,
        train_loop_config={"course": course},
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
    except SystemExit:  # Ray Train's own way with Ctrl-C, and with the exit code 0
        raise KeyboardInterrupt from None
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        said = str(error).lower()
        if "outofmemory" in said or "out of memory" in said:  # Ray ends a worker before the machine's memory is full
            raise UserError(too_large(settings)) from error
        last = [line.strip() for line in str(error).splitlines() if line.strip()][-1:]
        raise EngineDied(f"training stopped: {last[0] if last else type(error).__name__}") from error
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
    if folder.exists(FAULT):
        raise UserError(folder.read(FAULT).decode())
    return result


@contextmanager
def _progress(progress: Progress, settings: FinetuneSettings) -> Iterator[Any]:
    """A place for the workers to say how it goes; what they say becomes lines."""
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
    """Turns what a worker tells into lines for a person."""

    def __init__(self, progress: Progress, settings: FinetuneSettings) -> None:
        self._progress, self._settings = progress, settings
        self._said, self._tokens = -_SECONDS_BETWEEN_LINES, 0.0

    def say(self, told: dict[str, Any]) -> None:
        """One message."""
        say = self._progress.say
        if told["kind"] == "begin":
            dropped = f"; {told['dropped']:,} are too long and left out" if told["dropped"] else ""
            say(f"finetune: {told['sequences']:,} sequences in {told['steps']:,} steps{dropped}")
        elif told["kind"] == "resume":
            say("finetune: goes on from its last checkpoint")
        elif told["kind"] == "tune":
            right = "" if told["accuracy"] is None else f", {told['accuracy']:.3f} right"
            say(f"finetune: after step {told['step']:,} loss {told['loss']:.3f}{right} on the tune part")
        elif told["seconds"] - self._said >= _SECONDS_BETWEEN_LINES or told["step"] == told["of"]:
            self._said = told["seconds"]
            left = told["seconds"] / told["steps"] * (told["of"] - told["step"])
            rate = f", {told['tokens_per_second']:,.0f} tokens/s" if told["tokens_per_second"] else ""
            say(
                f"finetune: step {told['step']:,} of {told['of']:,}, loss {told['loss']:.3f}{rate}, "
                f"{left // 60:.0f} min {left % 60:02.0f} s left"
            )


def _published(
    run: RunDir,
    settings: FinetuneSettings,
    model: model_source.Model,
    training_set: TrainingSet,
    name: str,
    backend: str,
    found: Path,
    cost: dict[str, Any],
) -> Manifest:
    state = json.loads((found / TRAINER / "trainer_state.json").read_text(encoding="utf-8"))
    train, tune = points(state["log_history"])
    best = min(tune[1:], key=lambda point: point.loss)
    learnt = what_is_learnt(settings)
    if settings.start:  # whose shape it is, whatever the settings say
        of = json.loads((found / BEST / lora.CONFIG).read_text(encoding="utf-8"))
        learnt |= {"rank": of["r"], "alpha": of["lora_alpha"], "targets": of["target_modules"]}
    manifest = Manifest(
        name=settings.name,
        fingerprint=name,
        base=model.source,
        revision=model.revision,
        base_fingerprint=model.fingerprint,
        examples=training_set.fingerprint,
        train_examples=training_set.train,
        steps=state["global_step"],
        best_step=best.step,
        backend=backend,
        **cost,
        settings=learnt,
        versions={one: importlib.metadata.version(one) for one in _LIBRARIES},
        train=train,
        tune=tune,
    )
    publish(run, found / BEST, training_set.learnt, manifest)
    return manifest


def merge(run: RunDir, settings: FinetuneSettings, model: model_source.Model) -> str:
    """In a Ray task: the model with its weights added, as a plain directory. Returns where it is."""
    return str(tasks.call(_merge, run.address, settings.name, model))


def _merge(address: str, name: str, model: model_source.Model) -> str:
    from codemmlu.training.merging import merged

    run = RunDir(address)
    folder = f"merged/{name}"
    run.clear(folder)
    with TemporaryDirectory() as scratch:
        adapter = lora.local(run.below(folder_of(name)).address, model_source.cache_folder())
        merged(model_source.resolve(model.source, model_source.cache_folder()), model.revision, str(adapter), scratch)
        # What says that the model is there comes last.
        for file in sorted(Path(scratch).iterdir(), key=lambda file: (file.name == "config.json", file.name)):
            if file.name == "config.json":
                run.write(f"{folder}/{lora.LEARNT}", (adapter / lora.LEARNT).read_bytes())
            run.write(f"{folder}/{file.name}", file.read_bytes())
    return run.below(folder).shown
