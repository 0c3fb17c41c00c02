"""Runs generated Python programs in the sandbox, bounded in time and memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from codemmlu.errors import UserError
from codemmlu.sandbox import Limits, SandboxMissing, open_sandbox

# Of a core's time, so that other load on the machine changes nothing; a longer output is no choice.
_LIMITS = Limits(seconds=0.5, memory=512, output=2_000)


@dataclass(frozen=True)
class Ran:
    """The result of one program.

    Attributes:
        printed: The output, cut where it is too long.
        error: The name of the exception that ended the program; None where the program came to its end.
    """

    printed: str
    error: str | None


def run(programs: Sequence[str]) -> list[Ran]:
    """Run programs, each by itself.

    Returns:
        A result per program, in order. A program that takes the process down with it has the error `Killed`.

    Raises:
        UserError: No sandbox works on this machine.
    """
    try:
        sandbox = open_sandbox()
    except SandboxMissing as missing:
        raise UserError(
            f"no program runs without a sandbox, and none works here: {missing}", key="finetune.synthesise"
        ) from None
    return [Ran(*result) for result in sandbox.run_python(programs, _LIMITS)]
