"""One start of a pool of engines: what its actors are made from, and the blocks that they answer."""

from collections.abc import Callable
from dataclasses import dataclass

from codemmlu.engine.placement.placement import Placement
from codemmlu.inference.letter_mass import LetterMass
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.worker import WorkerSpec
from codemmlu.run_dir import RunDir


@dataclass(frozen=True)
class PoolSpec:
    """What every actor of a pool is made from.

    Attributes:
        worker_spec: What the actor opens.
        specs: The specs that the actor answers with.
        most_choices: The most choices of any question.
        at_once: The most answers in flight in one actor.
    """

    worker_spec: WorkerSpec
    specs: tuple[InferenceSpec, ...]
    most_choices: int
    at_once: int


@dataclass(frozen=True)
class Pool:
    """One start of the engines of a pool.

    Attributes:
        name: The name of the pool.
        worker: What every actor is made from.
        placement: Where the engines run.
        per_block: Questions in a block.
        masses: The letter masses of the answers so far; None for a pool without a model.
        start_timeout: Seconds in which the first answer has to come; None: no limit.
    """

    name: str
    worker: PoolSpec
    placement: Placement
    per_block: int
    masses: LetterMass | None = None
    start_timeout: float | None = None


@dataclass(frozen=True)
class StageBlocks:
    """The blocks of a stage: pending questions that are asked once all earlier stages are durable.

    Attributes:
        folder: Where the blocks are.
        most: The most blocks that there may be.
        due: The answers that are known to be due before the blocks are written.
        fill: Writes the blocks when the stage's time has come; returns the numbers of blocks and of answers due.
    """

    folder: str
    most: int
    due: int
    fill: Callable[[], tuple[int, int]]

    @property
    def attempt(self) -> str:
        """Return the folder of all stages of this attempt."""
        return self.folder.rpartition("/")[0]

    @property
    def ready(self) -> str:
        """Return the file of the number of blocks, which is written after the blocks."""
        return f"{self.folder}/ready"

    def write(self, run: RunDir) -> int:
        """Write the blocks, each readable as soon as it is written, and return the number of answers due."""
        blocks, due = self.fill()
        run.write(self.ready, str(blocks).encode())
        return due


@dataclass(frozen=True)
class ActorArguments:
    """What Ray constructs a `BlockWorker` with.

    Attributes:
        worker: What the actor is made from.
        address: The address of the run directory.
        stages: The folder of all stages of this attempt.
        folder: Where answers go.
        attempt: The content of the file ATTEMPT during this attempt.
        mark: The mark by which the watchdog finds the processes of the pool's engines.
    """

    worker: PoolSpec
    address: str
    stages: str
    folder: str
    attempt: bytes
    mark: str
