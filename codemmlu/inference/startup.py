"""The wait for the first answer of a pool: what a user reads meanwhile, and when the wait is over.

A GPU's library may hang for ever while an engine starts, for example NCCL between two T4s over PCIe, and says nothing.
"""

import threading
import time
from dataclasses import dataclass

from codemmlu.errors import Progress, UserError

REMINDER = 120.0  # seconds


@dataclass
class Startup:
    """The start of one pool's engines.

    Attributes:
        pool: The name of the pool.
        limit: Seconds after which the start is given up; None: never.
        logs: The folder of the engines' logs.
    """

    pool: str
    limit: float | None
    logs: str

    def __post_init__(self) -> None:
        """Begin to wait."""
        self._over = threading.Event()

    def end(self) -> None:
        """End the wait: an answer is there, or an error."""
        self._over.set()

    def watch(self, progress: Progress) -> None:
        """Report the state while no answer is there, until the wait is over.

        Args:
            progress: Where to report.

        Raises:
            UserError: The limit has passed.
        """
        began = time.monotonic()
        while True:
            waited = time.monotonic() - began
            left = REMINDER if self.limit is None else min(REMINDER, self.limit - waited)
            if self._over.wait(max(0.0, left)):
                return
            waited = time.monotonic() - began
            hint = (
                f"its log is on the engine's node in {self.logs} (worker-*.out); engines that share GPUs over PCIe may "
                f"hang in NCCL: NCCL_P2P_DISABLE=1 in the environment, "
                f"models.{self.pool}.engine.disable_custom_all_reduce=true"
            )
            if self.limit is not None and waited >= self.limit:
                raise UserError(
                    f"models.{self.pool}.start_timeout: no answer within {self.limit:g} s of the start; {hint}"
                )
            progress.say(
                f"{self.pool}: no answer after {waited / 60:.0f} min: the engine waits for its GPU, loads or fetches "
                f"the model, compiles, or answers the first questions; {hint}"
            )
