"""What this project adds to vLLM's worker process on a CPU: seeds that survive a prompt computed in parts.

vLLM 0.32 takes back the random number of a token that it drops (a prompt's part, sampled from before its end) by moving
the generator's offset, which a CPU's generator does not have: one seeded request ends the engine. Such tokens are
dropped only before the first one that counts, so starting anew from the seed is the same.
"""

from typing import Any

import torch


class Rewound(torch.Generator):  # type: ignore[misc]  # torch is not there for mypy
    """A generator whose way back is its beginning."""

    def get_offset(self) -> int:
        """Always at the beginning."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Back to the beginning, wherever from."""
        self.manual_seed(self.initial_seed())


class CpuWorker:
    """Mixed into vLLM's worker (`worker_extension_cls`); its methods are called there by name."""

    def rewind_seeds(self) -> None:
        """From here on requests with a seed get a generator that can be taken back."""
        place: Any = torch
        place.Generator = Rewound
