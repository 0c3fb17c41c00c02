"""The context that a job receives, and the outcome that a job returns."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from codemmlu.cli.console import Terminal
from codemmlu.engine.placement.gpus import Resources
from codemmlu.errors import redact_credentials
from codemmlu.recipe import Recipe

SECOND_NAME = "codemmlu-ray"


def _by_second_name() -> bool:
    return Path(sys.argv[0]).name == SECOND_NAME


class Program(Enum):
    """How a user starts a command: as a file of jobs/, or as the installed command."""

    JOBS = "python jobs/{}.py"
    INSTALLED = "codemmlu {}"

    def of(self, name: str) -> str:
        """Return the words that start a command, such as `codemmlu run`."""
        words = self.value.format(name)
        # Where another package has the command `codemmlu`, this one was started by its second name.
        return words.replace("codemmlu", SECOND_NAME) if self is Program.INSTALLED and _by_second_name() else words

    def recipe(self, name: str) -> str:
        """Return how a user names a recipe of the package."""
        return f"recipes/{name}.yaml" if self is Program.JOBS else name


@dataclass(frozen=True)
class JobContext:
    """The context of a job.

    Attributes:
        name: The name of the job, as in jobs/NAME.py.
        arguments: The recipe's path and the overrides, as the user typed them.
        recipe: The validated recipe.
        terminal: The output.
        hardware: The hardware of `--gpus`; None for the hardware that is there.
        program: How the user started the job.
    """

    name: str
    arguments: tuple[str, ...]
    recipe: Recipe
    terminal: Terminal
    hardware: Resources | None = None
    program: Program = Program.JOBS

    def command(self, job: str | None = None) -> str:
        """Return the command that runs this job, or another one, with the same arguments."""
        return command_line(job or self.name, self.arguments, self.program)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a job.

    Attributes:
        report: The object that `--json` prints.
        failed: The number of failed answers.
    """

    report: dict[str, Any]
    failed: int


def command_line(job: str, arguments: Sequence[str], program: Program = Program.JOBS) -> str:
    """Return the command that a user types for a job, without credentials, which logs must not show."""
    return f"{program.of(job)} {shlex.join(map(redact_credentials, arguments))}".rstrip()
