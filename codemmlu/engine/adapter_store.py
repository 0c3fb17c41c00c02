"""Published weights: an adapter in the run directory with its manifest, which is written last.

adapters/NAME/adapter_config.json, adapter_model.safetensors     as peft writes them
adapters/NAME/learnt.json                                        the twin keys of the questions they were made of
adapters/NAME/manifest.json                                      what they were made of, and how they did
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue

from codemmlu.engine.lora import CONFIG, LEARNT, MANIFEST, WEIGHTS
from codemmlu.errors import redact_credentials
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir

# Settings that say where and when, but not what is learnt. How many sequences are in a step is one of the others.
_ELSEWHERE = {"name", "merge", "checkpoint_steps", "backend"}


class Point(BaseModel):
    """The state after a step: loss of the step, or of the tune part; accuracy of the tune part."""

    model_config = ConfigDict(frozen=True)
    step: int
    loss: float
    accuracy: float | None = None


class Manifest(BaseModel):
    """What an adapter is. `fingerprint` names all that determines what was learnt."""

    model_config = ConfigDict(frozen=True)
    name: str
    fingerprint: str
    base: str
    revision: str | None
    base_fingerprint: str
    examples: str  # digest of what was learnt from
    train_examples: int
    steps: int
    best_step: int
    backend: str
    device: str  # its name
    memory_gib: float | None  # at most: of the GPU, or of the worker's process
    tokens_per_second: float | None  # of the first worker's last stretch
    settings: dict[str, JsonValue]
    versions: dict[str, str]
    train: tuple[Point, ...]
    tune: tuple[Point, ...]  # the first of them is before the first step


def what_is_learnt(settings: FinetuneSettings) -> dict[str, JsonValue]:
    """The settings that determine the weights; of addresses without the keys that they may carry."""
    told = settings.model_dump(mode="json", exclude=_ELSEWHERE)
    return {name: redact_credentials(value) if isinstance(value, str) else value for name, value in told.items()}


def folder_of(name: str) -> str:
    """Where in a run an adapter is."""
    return f"adapters/{name}"


def read_manifest(run: RunDir, name: str) -> Manifest | None:
    """The manifest of an adapter that stands; None of one that was never finished."""
    place = f"{folder_of(name)}/{MANIFEST}"
    return Manifest.model_validate_json(run.read(place)) if run.exists(place) else None


def publish(run: RunDir, weights: Path, learnt: Iterable[str], manifest: Manifest) -> None:
    """Puts trained weights into the run directory, in place of those that were there. learnt: twin keys."""
    folder = folder_of(manifest.name)
    run.clear(folder)
    config = json.loads((weights / CONFIG).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = manifest.base  # not where it happened to lie on the machine that trained
    run.write(f"{folder}/{CONFIG}", json.dumps(config, indent=1).encode())
    run.write(f"{folder}/{WEIGHTS}", (weights / WEIGHTS).read_bytes())
    run.write(f"{folder}/{LEARNT}", json.dumps(sorted(learnt)).encode())
    run.write(f"{folder}/{MANIFEST}", manifest.model_dump_json(indent=1).encode())


def points(history: list[dict[str, Any]]) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """The curves out of a trainer's history: of its steps, and of the tune part."""
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
