"""What every sandbox backend takes and returns: a program, its limits, and what became of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

# ok: it ended with exit code 0. compile_error: the compiler, or the parser of an interpreter, refused the text.
# runtime_error: it ended with another code or by a signal. timeout, memory, output: a limit ended it. unsupported: it
# wanted something that the backend refuses, so nothing is known about it.
Status = Literal["ok", "compile_error", "runtime_error", "timeout", "memory", "output", "unsupported"]


@dataclass(frozen=True)
class Limits:
    """The bounds of one program, its compiler included.

    Attributes:
        seconds: Wall time: what ends a program that waits.
        cpu: Seconds of a core's time for each process: what ends a program that computes, whatever else is running.
        memory: MiB that all its processes may hold together.
        processes: Processes and threads.
        files: MiB that it may write to files.
        output: Bytes that it may print.
    """

    seconds: float = 30.0
    cpu: int = 8
    memory: int = 1024
    processes: int = 64
    files: int = 32
    output: int = 65_536


@dataclass(frozen=True)
class Program:
    """A program text in one language.

    Attributes:
        language: A name in `languages.LANGUAGES`.
        source: The text, which is not trusted.
        action: check: compile or parse the text only (Perl runs its BEGIN blocks for that). run: run it too.
        stdin: What the program may read.
        file: The name of its file, which Java checks; empty: the language's own rule.
    """

    language: str
    source: str
    action: Literal["check", "run"] = "run"
    stdin: str = ""
    file: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        status: The way in which it ended.
        printed: What it wrote to standard output, cut at the limit.
        errors: What it, or its compiler, wrote to standard error, cut at the limit.
        code: The exit code; negative: the signal that ended it; None: a limit ended it.
        seconds: Wall time, compiler included.
    """

    status: Status
    printed: str
    errors: str
    code: int | None
    seconds: float


class Sandbox(Protocol):
    """A place where a program can do nothing but compute, print and end.

    Attributes:
        name: The name of the backend.
    """

    name: str

    def languages(self) -> dict[str, str]:
        """Return the tool and its version for each language that can be run here."""

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run, or only check, one program."""

    def run_python(self, sources: Sequence[str], limits: Limits, setup: str = "") -> list[tuple[str, str | None]]:
        """Run short Python programs in one start of the interpreter, each in a process of its own.

        Args:
            sources: The programs.
            limits: The limits; `seconds` is for each program.
            setup: Code that runs once before the programs; a function `execute(source)` in it replaces `exec`.

        Returns:
            For each program the output and the name of the exception that ended it, None where it came to its end.
        """


class SandboxMissing(Exception):
    """No sandbox, or not the wanted one, works on this machine; the text says what to install."""
