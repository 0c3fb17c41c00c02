"""The training job: plain values that the driver sends to its workers, and names of shared files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from codemmlu.recipe import FinetuneSettings

# Files in the training's folder: the training examples, and an error that would recur in a new attempt.
LESSONS, FAULT = "lessons.parquet", "fault.txt"
# Folders in a checkpoint: the trainer's own checkpoint, and the best weights so far.
TRAINER, BEST = "trainer", "best"


@dataclass(frozen=True)
class TrainJobSpec:
    """The job of a training worker.

    Attributes:
        address: The training's folder, which has the training examples.
        source: The model, named as for an engine.
        revision: Revision of a model on the Hub.
        cache: Folder of downloaded and unpacked models.
        start: Directory or address of the LoRA weights to go on from; None: new weights.
        backend: A name in BACKENDS.
        settings: The recipe's section `finetune`.
        tell: Sends a message of the first worker to the driver.
        trust_remote_code: Whether Python code that comes with the model may run.
    """

    address: str
    source: str
    revision: str | None
    cache: str
    start: str | None
    backend: str
    settings: FinetuneSettings
    tell: Callable[[dict[str, Any]], None]
    trust_remote_code: bool = False


def too_large(settings: FinetuneSettings) -> str:
    """Return the error message where a step does not fit the memory."""
    return (
        f"finetune.batch_size: {settings.batch_size} sequences of up to {settings.max_length:,} tokens do not fit the "
        "memory; lower it and raise finetune.accumulation, or lower finetune.max_length"
    )
