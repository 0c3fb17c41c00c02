"""The command line of every job: RECIPE, overrides, --dry-run, --json, --gpus; and the exit codes.

0    done; rejected rows do not change this code
1    some rows failed, or the run did not finish
2    a mistake of the user, in one line
130  stopped

The same command continues the run in every case.
"""

import argparse
import contextlib
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

import psutil

from codemmlu.cli.console import Terminal
from codemmlu.cli.job import JobContext, Outcome, Program, command_line
from codemmlu.cli.same_name import warning
from codemmlu.engine.placement.gpus import simulated
from codemmlu.errors import EngineDied, UserError, is_disk_full, redact_credentials, safe
from codemmlu.recipe import load
from codemmlu.recipe.packaged import find

# Seconds that the kernel has to end a killed process, which may wait for a GPU's driver.
_SECONDS_TO_END = 10


class _Parser(argparse.ArgumentParser):
    """An argparse parser that reports a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake and the command for help, and exit with code 2."""
        self.exit(2, f"error: {safe(redact_credentials(message), 1000)}; see {self.prog} --help\n")


def main(
    name: str,
    about: str,
    step: Callable[[JobContext], Outcome],
    arguments: list[str] | None = None,
    program: Program = Program.JOBS,
) -> int:
    """Run a job of a recipe, or print the job's plan, and return the exit code."""
    given = recipe_parser(program.of(name), about).parse_intermixed_args(arguments)
    typed = (given.recipe, *given.overrides)

    def run(terminal: Terminal) -> Outcome:
        if given.gpus and not given.dry_run:
            raise UserError("--gpus plans for hardware that is not here: add --dry-run")
        hardware = simulated(given.gpus) if given.gpus else None
        recipe = load(find(given.recipe), given.overrides)
        job = JobContext(name, typed, recipe, terminal, hardware, program)
        if not given.dry_run:
            return step(job)
        from codemmlu.cli.dry_run import plan  # This import takes half a second.

        return plan(job)

    return _finished(run, given.json, command_line(name, typed, program))


def main_of(
    parser: argparse.ArgumentParser, step: Callable[[Terminal, list[str]], Outcome], arguments: list[str] | None = None
) -> int:
    """Run a job that is given no recipe, but run directories or a question file, and return the exit code."""
    given = parser.parse_intermixed_args(arguments)
    typed = [word for name in ("file", "runs", "overrides") for word in _words(getattr(given, name, []))]
    return _finished(lambda terminal: step(terminal, typed), given.json, shlex.join([*parser.prog.split(), *typed]))


def _words(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def recipe_parser(prog: str, about: str) -> argparse.ArgumentParser:
    """Return the parser of a job of a recipe."""
    parser = plain_parser(prog, about)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a recipe, such as demo")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*", help="for example questions.limit=100")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and start nothing")
    parser.add_argument("--gpus", metavar="2xT4", help="with --dry-run: plan for this hardware")
    return parser


def runs_parser(prog: str, about: str) -> argparse.ArgumentParser:
    """Return the parser of a job that is given run directories."""
    parser = plain_parser(prog, about)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="a run directory, such as runs/demo")
    return parser


def file_parser(prog: str, about: str) -> argparse.ArgumentParser:
    """Return the parser of a job that is given a question file."""
    parser = plain_parser(prog, about)
    parser.add_argument("file", metavar="FILE", help="a question file, a folder, or any other questions.source")
    parser.add_argument("overrides", metavar="key.path=value", nargs="*", help="for example questions.answers=text")
    return parser


def plain_parser(prog: str, about: str) -> argparse.ArgumentParser:
    """Return the parser of a job that is given nothing."""
    parser = _Parser(prog=prog, description=about, allow_abbrev=False)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout, all else on stderr")
    return parser


def _finished(run: Callable[[Terminal], Outcome], as_json: bool, again: str) -> int:
    """Run a job, report errors in one line each, and return the exit code."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # It was closed before this process began.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # A terminal that is not UTF-8 is no reason to stop.
    for number in (signal.SIGTERM, signal.SIGINT):  # A shell starts background jobs that ignore SIGINT.
        signal.signal(number, _interrupt)
    try:
        # Libraries print too: with --json their output goes to stderr, like our own lines.
        with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
            terminal = Terminal(to_stderr=as_json)
            if line := warning():
                print(line, file=sys.stderr)
            outcome = run(terminal)
    except UserError as error:
        _complain(f"error: {safe(redact_credentials(str(error)), 1000)}")
        return 2
    except OSError as error:
        if not is_disk_full(error):
            raise
        _complain(f"error: the disk is full: {safe(str(error), 1000)}; make room")
        return 2
    except EngineDied as error:
        _complain(f"not finished: {safe(redact_credentials(str(error)), 1000)}")
        _complain(f"What was answered is kept; to continue: {again}")
        return 1
    except KeyboardInterrupt:
        _complain(f"\nStopped. What was answered is kept; to continue: {again}")
        return 130
    lost = terminal.lost
    if as_json:
        try:
            print(json.dumps(outcome.report), flush=True)
        except OSError as error:
            lost = error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if lost and not isinstance(lost, BrokenPipeError):  # A reader that has gone, such as head, wants no more.
        _complain(f"not finished: the output cannot be written: {lost.strerror}")
        return 1
    return 1 if outcome.failed else 0


def _complain(line: str) -> None:
    """Print a line on stderr; where that cannot be written, the exit code alone says it."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def exit_with(code: int) -> NoReturn:
    """End the process of a job with an exit code, also where threads of the job still wait for Ray.

    Ray's C++ core ends a process with code 1 when a thread is inside the core while it shuts down. A job that was
    stopped, or that failed, may have such threads, so its process ends without that shutdown. A cluster notices that
    the process is gone; a Ray that the process has started is killed here, with everything below it.

    Args:
        code: The exit code.
    """
    if not code:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # The reader of a pipe may be gone.
            stream.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Ray's C++ core would print that its node is gone.
    below = psutil.Process().children(recursive=True)
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(below, timeout=_SECONDS_TO_END)
    os._exit(code)
