"""The adapter store: trained LoRA weights in the run directory, with a manifest that is written last.

adapters/NAME/adapter_config.json, adapter_model.safetensors     the weights, as peft writes them
adapters/NAME/learnt.json                                        the content keys of the training questions
adapters/NAME/manifest.json                                      how the weights were trained, and how well they did
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from codemmlu.engine.lora import CONFIG, LEARNT, MANIFEST, WEIGHTS, content_keys
from codemmlu.engine.weight_files import read_shapes
from codemmlu.errors import Progress, first_line, redact_credentials
from codemmlu.recipe import FinetuneSettings, left_out
from codemmlu.run_dir import DamagedError, RunDir

# Settings that say where and when weights are trained but do not change them. The number of sequences in a step does.
_WITHOUT_EFFECT = {
    *("name", "merge", "checkpoint_steps", "backend"),
    *("packing", "activations_gib", "compile"),  # they change a loss by rounding alone
}


class Point(BaseModel):
    """The state of training after a step.

    Attributes:
        step: The number of the step.
        loss: The loss of the step, or of the tune part of the examples.
        accuracy: The accuracy on the tune part; None for a training step.
    """

    model_config = ConfigDict(frozen=True)
    step: int
    loss: float
    accuracy: float | None = None


class Manifest(BaseModel):
    """How an adapter was trained, and how well it did.

    Attributes:
        name: The adapter's name in the recipe.
        fingerprint: A digest of everything that determines the weights.
        base: The source of the model that the adapter belongs to.
        revision: The model's commit on the Hub.
        base_fingerprint: The model's fingerprint.
        examples: A digest of the training examples.
        train_examples: The number of training examples.
        steps: Steps that were trained.
        best_step: The step whose weights were kept.
        backend: The library that trained.
        device: The name of the device.
        memory_gib: The peak memory of the GPU, or of the worker's process.
        tokens_per_second: The speed of the first worker in its last uninterrupted stretch.
        settings: The settings that determine the weights.
        versions: The versions of the libraries.
        layers: The number of layers with trained weights, by the layers' names; empty in an earlier version's manifest.
        contradicted: The examples that were left out because a tool contradicts their key; see training/contradictions.
        train: The training curve.
        tune: The curve of the tune part; its first point is from before the first step.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    fingerprint: str
    base: str
    revision: str | None
    base_fingerprint: str
    examples: str
    train_examples: int
    steps: int
    best_step: int
    backend: str
    device: str
    memory_gib: float | None
    tokens_per_second: float | None
    settings: dict[str, JsonValue]
    versions: dict[str, str]
    layers: dict[str, int] = {}
    contradicted: tuple[dict[str, JsonValue], ...] = ()
    train: tuple[Point, ...]
    tune: tuple[Point, ...]


def what_is_learnt(settings: FinetuneSettings) -> dict[str, JsonValue]:
    """Return the settings that determine the weights, without the credentials that addresses may carry."""
    fields = settings.model_dump(mode="json", exclude=_WITHOUT_EFFECT | left_out(settings))
    return {name: redact_credentials(value) if isinstance(value, str) else value for name, value in fields.items()}


def folder_of(name: str) -> str:
    """Return the folder of an adapter, below the run directory."""
    return f"adapters/{name}"


def read_manifest(run: RunDir, name: str) -> Manifest | None:
    """Return the manifest of a published adapter; None where the adapter was never finished.

    Raises:
        DamagedError: The manifest is not as it was written.
    """
    path = f"{folder_of(name)}/{MANIFEST}"
    if not run.exists(path):
        return None
    try:
        return Manifest.model_validate_json(run.read(path))
    except ValueError as error:
        raise DamagedError(f"{run.shown}/{path}", first_line(error)) from None


def standing(run: RunDir, name: str, progress: Progress) -> Manifest | None:
    """Return the manifest of an adapter that may be trained again; a damaged file of the adapter is set aside.

    Args:
        run: The run directory.
        name: The name of the adapter.
        progress: Where to report.

    Returns:
        The manifest; None where the adapter was never finished, or is not as it was written.
    """
    manifest: Manifest | None = None
    try:
        if manifest := read_manifest(run, name):
            path = f"{folder_of(name)}/{LEARNT}"
            # Without the training questions, an evaluation on some of them would go unnoticed.
            content_keys(run.read(path) if run.exists(path) else b"", f"{run.shown}/{path}")
        return manifest
    except DamagedError as error:
        damaged = f"{folder_of(name)}/{LEARNT if manifest else MANIFEST}"
        kept = f"it is kept as {run.set_aside(damaged)}, and " if run.exists(damaged) else ""
        progress.say(f"{str(error).partition(';')[0]}: {kept}{name} is trained again")
        return None


def publish(run: RunDir, weights: Path, learnt: Iterable[str], manifest: Manifest) -> None:
    """Write trained weights into the run directory, in place of an earlier adapter of the same name.

    Args:
        run: The run directory.
        weights: The local folder into which peft wrote the weights.
        learnt: The content keys of the training questions.
        manifest: The adapter's manifest.
    """
    folder = folder_of(manifest.name)
    run.clear(folder)
    config = json.loads((weights / CONFIG).read_text(encoding="utf-8"))
    # The model's source, instead of its path on the machine that trained.
    config["base_model_name_or_path"] = manifest.base
    run.write(f"{folder}/{CONFIG}", json.dumps(config, indent=1).encode())
    run.write(f"{folder}/{WEIGHTS}", (weights / WEIGHTS).read_bytes())
    run.write(f"{folder}/{LEARNT}", json.dumps(sorted(learnt)).encode())
    run.write(f"{folder}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())


def trained_layers(weights: Path) -> dict[str, int]:
    """Count the layers for which peft wrote LoRA weights to a folder, by the last part of their names."""
    shapes = read_shapes(weights / WEIGHTS, f"finetune: {weights}")
    names = (name.partition(".lora_")[0].rpartition(".")[2] for name in shapes if ".lora_A." in name)
    return dict(sorted(Counter(names).items()))


def points(history: list[dict[str, Any]]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Return the training curve and the curve of the tune part from a trainer's log history."""
    train = [Point(step=log["step"], loss=log["loss"]) for log in history if "loss" in log]
    tune = [
        Point(
            step=log["step"],
            loss=log["eval_loss"],
            accuracy=log.get("eval_accuracy"),
        )
        for log in history
        if "eval_loss" in log
    ]
    return tuple(train), tuple(tune)
