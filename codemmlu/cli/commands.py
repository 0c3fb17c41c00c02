"""The commands by name, for jobs/NAME.py and for the installed `codemmlu NAME`.

A new command is a step and an entry in COMMANDS; jobs/ has a file for each that a cluster may run.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from codemmlu.cli.job import Outcome, Program
from codemmlu.cli.main import exit_with, file_parser, main, main_of, plain_parser, recipe_parser, runs_parser
from codemmlu.cli.same_name import OURS, installed
from codemmlu.recipe.packaged import packaged

_Parser = Callable[[str, str], argparse.ArgumentParser]


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        step: Where its function is, `module:name`; imported when it runs, as some of the modules are slow to import.
        summary: What it does, in one line.
        about: The rest of its help.
        parser: The parser of its command line, which says what it is given.
    """

    step: str
    summary: str
    about: str
    parser: _Parser = recipe_parser

    def function(self) -> Callable[..., Any]:
        """Return the function that does the work."""
        module, _, name = self.step.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function

    def parser_for(self, prog: str) -> argparse.ArgumentParser:
        """Return the parser of the command line."""
        return self.parser(prog, f"{self.summary}. {self.about}")


COMMANDS = {
    "run": Command(
        "codemmlu.cli.steps:run",
        "Do everything that a recipe asks for",
        "Questions are read and cleaned, asked of every voter's model, voted on and reported; what is done is skipped. "
        "Stop it anywhere: the same command continues.",
    ),
    "answer": Command(
        "codemmlu.cli.steps:answer",
        "Answer the questions that have no durable answer yet, then vote and report",
        "Nothing is trained.",
    ),
    "index": Command(
        "codemmlu.cli.steps:index",
        "Make the index of solved examples",
        "Embeds the labelled rows of examples.source and keeps them in the run directory, or where examples.index "
        "says. An index whose inputs did not change is reused. run and answer do this themselves.",
    ),
    "finetune": Command(
        "codemmlu.cli.steps:finetune",
        "Train LoRA weights on solved examples, as the recipe's finetune says",
        "Stop it anywhere: the same command goes on from its last checkpoint. Voters answer with the weights by "
        "adapter: NAME.",
    ),
    "vote": Command(
        "codemmlu.cli.steps:vote",
        "Vote and report on stored answers alone",
        "Votes again on what a run directory holds, by whatever rule, weights and calibration the recipe now names. "
        "Needs no inference and no GPU; questions that were never asked count as failed.",
    ),
    "report": Command(
        "codemmlu.cli.steps:compare",
        "Compare runs on the same questions",
        "Who is right where the other is wrong, with an exact test. Of one run it shows the table again.",
        runs_parser,
    ),
    "check": Command(
        "codemmlu.cli.check:check",
        "Look at a question file before anything is asked",
        "Shows the first question as it is sent, the columns that are used and not used, how answers are read, "
        "repeated questions, and every oddity with its place and the setting for it.",
        file_parser,
    ),
    "init": Command(
        "codemmlu.cli.starting_recipe:init",
        "Write a starting recipe for a question file and this hardware",
        "Writes NAME.yaml for NAME.csv into the current directory, with comments. An existing file is left alone.",
        file_parser,
    ),
    "doctor": Command(
        "codemmlu.cli.doctor:doctor",
        "Show what this machine has and which recipes fit it",
        "Starts nothing and changes nothing.",
        plain_parser,
    ),
}


def call(name: str, arguments: list[str] | None = None, program: Program = Program.JOBS) -> int:
    """Run a command, and return the exit code."""
    command = COMMANDS[name]
    parser = command.parser_for(program.of(name))

    def step(*given: Any) -> Outcome:
        outcome: Outcome = command.function()(*given)
        return outcome

    if command.parser is recipe_parser:
        return main(name, str(parser.description), step, arguments, program)
    return main_of(parser, step, arguments)


def run_job(name: str) -> NoReturn:
    """Run a command as the process of jobs/NAME.py."""
    exit_with(call(name))


def entry() -> NoReturn:
    """Run the installed command."""
    exit_with(command_of(sys.argv[1:]))


def command_of(words: list[str]) -> int:
    """Run the command that the words name, and return the exit code."""
    if words and words[0] in COMMANDS:
        return call(words[0], words[1:], Program.INSTALLED)
    if not words:
        words = ["--help"]
    whole_parser().parse_args(words)
    return 0


def whole_parser() -> argparse.ArgumentParser:
    """Return the parser of the installed command with all commands: for help, completion and mistakes."""
    import shtab  # Only a shell that is being set up, or a user who looks for help, needs it.

    parser = plain_parser("codemmlu", "Answer multiple-choice questions about code with language models, on Ray.")
    parser.epilog = "codemmlu COMMAND --help says more. Begin with: codemmlu run demo"
    parser.add_argument("--version", action="version", version=f"{OURS} {installed(OURS) or 'not installed'}")
    shtab.add_argument_to(parser, "--print-completion", preamble=_preamble())
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        inner = command.parser_for(f"codemmlu {name}")
        added = commands.add_parser(name, help=command.summary, parents=[inner], add_help=False)
        for action in added._actions:
            if action.dest == "recipe":
                setattr(action, "complete", _RECIPE)  # noqa: B010 - shtab reads it, and argparse does not know it
            elif action.dest in ("file", "runs"):
                setattr(action, "complete", shtab.FILE if action.dest == "file" else shtab.DIRECTORY)  # noqa: B010
    return parser


# shtab's own words for a completion by a function of the preamble.
_RECIPE = {"bash": "_codemmlu_recipes", "zsh": "_codemmlu_recipes", "tcsh": "f"}


def _preamble() -> dict[str, str]:
    """Return the shell functions that complete a recipe: the names of the package's, and files."""
    names = " ".join(packaged())
    return {
        "bash": f'_codemmlu_recipes() {{ compgen -W "{names}" -- "$1"; compgen -o default -- "$1"; }}',
        "zsh": f"_codemmlu_recipes() {{ _alternative 'recipes:recipe:({names})' 'files:file:_files -g \"*.yaml\"' }}",
    }
