"""The course: what crosses from the driver to a training worker, and where they find what each other left."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codemmlu.recipe import FinetuneSettings

# In the training's folder: what is learnt, and what went wrong that trying again does not change.
LESSONS, FAULT = "lessons.parquet", "fault.txt"
# In a checkpoint.
TRAINER, BEST = "trainer", "best"


@dataclass(frozen=True)
class TrainJobSpec:
    """What a worker is told: plain values.

    address: of the folder with the lessons; source, revision, cache: the model, as an engine is given it
    start: LoRA weights to go on from; backend: a name in BACKENDS
    tell: called by the first worker with what it has to say
    """

    address: str
    source: str
    revision: str | None
    cache: str
    start: str | None
    backend: str
    settings: FinetuneSettings
    tell: Callable[[dict[str, Any]], None]


def too_large(settings: FinetuneSettings) -> str:
    """What to say where memory does not hold a step."""
    return (
        f"finetune.batch_size: {settings.batch_size} sequences of up to {settings.max_length:,} tokens do not fit the "
        "memory; lower it and raise finetune.accumulation, or lower finetune.max_length"
    )
