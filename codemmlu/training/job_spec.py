"""The training job: plain values that the driver sends to its workers, and names of shared files."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings

# Files in the training's folder: the training examples, and an error that would recur in a new attempt.
LESSONS, FAULT = "lessons.parquet", "fault.txt"
# Folders in a checkpoint: the trainer's own checkpoint, and the best weights so far.
TRAINER, BEST = "trainer", "best"


class Begun(TypedDict):
    """A worker's message before the first step: the numbers of sequences, of those left out, and of steps."""

    kind: Literal["begin"]
    sequences: int
    dropped: int
    steps: int


class Resumed(TypedDict):
    """A worker's message that training goes on from a checkpoint."""

    kind: Literal["resume"]


class Stepped(TypedDict):
    """A worker's message after a step: `seconds` and `steps` count from the start of this attempt."""

    kind: Literal["step"]
    step: int
    of: int
    loss: float
    steps: int
    seconds: float
    tokens_per_second: float | None


class Evaluated(TypedDict):
    """A worker's message after an evaluation on the tune part."""

    kind: Literal["tune"]
    step: int
    loss: float
    accuracy: float | None


Message = Begun | Resumed | Stepped | Evaluated


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
    tell: Callable[[Message], None]
    trust_remote_code: bool = False


def too_large(settings: FinetuneSettings) -> UserError:
    """Return the error where a step does not fit the memory."""
    return UserError(
        f"{settings.batch_size} sequences of up to {settings.max_length:,} tokens do not fit the "
        "memory; lower it and raise finetune.accumulation, or lower finetune.max_length",
        key="finetune.batch_size",
    )
