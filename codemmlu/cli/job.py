"""The context that a job receives, and the outcome that a job returns."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codemmlu.cli.console import Terminal
from codemmlu.engine.placement.gpus import Resources
from codemmlu.errors import redact_credentials
from codemmlu.recipe import Recipe


@dataclass(frozen=True)
class JobContext:
    """The context of a job.

    Attributes:
        name: The name of the job, as in jobs/NAME.py.
        arguments: The recipe's path and the overrides, as the user typed them.
        recipe: The validated recipe.
        terminal: The output.
        hardware: The hardware of `--gpus`; None for the hardware that is there.
    """

    name: str
    arguments: tuple[str, ...]
    recipe: Recipe
    terminal: Terminal
    hardware: Resources | None = None

    def command(self, job: str | None = None) -> str:
        """Return the command that runs this job, or another one, with the same arguments."""
        return command_line(job or self.name, self.arguments)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        report: The object that `--json` prints.
        failed: The number of failed answers.
    """

    report: dict[str, Any]
    failed: int


def command_line(job: str, arguments: Sequence[str]) -> str:
    """Return the command that a user types for a job, without credentials, which logs must not show."""
    return shlex.join(["python", f"jobs/{job}.py", *map(redact_credentials, arguments)])
