"""The job of `python_driver`: short Python programs, run in one start of the interpreter."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources

from codemmlu.sandbox.protocol import Limits
from codemmlu.sandbox.supervisor import Ended

Result = tuple[str, str | None]


@cache
def driver() -> str:
    """Return the text of the driver."""
    return resources.files("codemmlu.sandbox").joinpath("python_driver.py").read_text(encoding="utf-8")


def run_batch(
    start: Callable[[bytes, Limits], Ended], sources: Sequence[str], limits: Limits, setup: str = "", steps: bytes = b""
) -> list[Result]:
    """Run programs by the driver; where one takes the driver down with it, halves of the batch find that program.

    Args:
        start: Starts the driver with a job and limits.
        sources: The programs.
        limits: The limits of each program.
        setup: Code that runs once before the programs.
        steps: The seccomp filter of each program; empty: none.

    Returns:
        A result for each program, in order. A program without a result has the error `Killed`.
    """
    if not sources:
        return []
    job = {"sources": list(sources), "seconds": limits.seconds, "most": limits.output, "setup": setup}
    wall, core = 20 + (4 + 12 * limits.seconds) * len(sources), 20 + int(limits.seconds + 1) * len(sources)
    whole = replace(limits, seconds=wall, cpu=core, output=16 * 2**20)
    ended = start(json.dumps(job | {"filter": steps.hex()}).encode(), whole)
    try:
        results = [(str(printed), error) for printed, error in json.loads(ended.printed)]
        if len(results) == len(sources):
            return results
    except (ValueError, TypeError, RecursionError):
        pass
    if len(sources) == 1:
        return [("", "Killed")]
    half = len(sources) // 2
    return [
        result for part in (sources[:half], sources[half:]) for result in run_batch(start, part, limits, setup, steps)
    ]
