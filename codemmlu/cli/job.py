"""What a job is given and what it gives back."""

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
    """What a job is given: the validated recipe, the terminal, and how the job was called.

    name: of the job, as in jobs/NAME.py
    arguments: the recipe and the overrides, as the user typed them
    hardware: what --gpus says; None where the job is to use what is there
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
    """What a job gives back: the object that --json prints, and the number of failed answers."""

    report: dict[str, Any]
    failed: int


def command_line(job: str, arguments: Sequence[str]) -> str:
    """Return the command of a job, for a user to type: without credentials, which logs must not show."""
    return shlex.join(["python", f"jobs/{job}.py", *map(redact_credentials, arguments)])
