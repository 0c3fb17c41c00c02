"""The probe `execute`: programs are run, and what they print is matched to the choices.

output      the program of the question is run
completion  the examples in the docstring are run with each choice as the function's body
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from codemmlu.dataset.kind import kind_of
from codemmlu.evidence.examples import examples_of
from codemmlu.evidence.extraction import Extracted, extract
from codemmlu.evidence.frequencies import Feature
from codemmlu.evidence.matching import DIFFERS, is_incomplete, match
from codemmlu.evidence.probe import LIMITS, Observation, Run, run_of
from codemmlu.evidence.static import filled
from codemmlu.sandbox import Limits, Outcome, Program, Sandbox
from codemmlu.schema import Question

_EACH = Limits(seconds=2.0, memory=512, output=2_000)
# What makes two runs of one program differ.
_CHANGING = re.compile(
    r"\brand|random|\btime\b|Time\(|Date\b|getpid|getppid|%p|\bfork\b|pthread|Thread|hashCode|\bid\s*\(|uuid"
)
# Statuses that say nothing about a program, but something about the machine.
_UNKNOWN = ("memory", "unsupported")


class Execute:
    """What a program does when it is run."""

    version = 2
    artefact = False
    uses_tools = True

    def language(self, question: Question) -> str | None:
        """Return the language of the program that is run."""
        kind = kind_of(question)
        if kind == "completion":
            return "python" if examples_of(question) else None
        readings = extract(question) if kind == "output" else []
        return readings[0].language if readings else None

    def observe(self, question: Question, sandbox: Sandbox | None) -> Observation | None:
        """Run the program, or each choice's program on the examples."""
        assert sandbox is not None
        if kind_of(question) == "completion":
            return _completed(question, sandbox)
        reading, outcome = _first_that_compiles(extract(question), sandbox)
        if outcome.status in _UNKNOWN:
            return None
        run = run_of(outcome)
        if _differs(reading, outcome, sandbox):
            run = replace(run, status=DIFFERS)
        return Observation(reading.language, (run,))

    def features(self, question: Question, observation: Observation) -> Sequence[Feature] | None:
        """Return how each choice matches what the program did, or how its examples came out."""
        if kind_of(question) == "completion":
            return _passed(observation.runs, len(examples_of(question)))
        (run,) = observation.runs
        if run.status not in ("ok", "timeout", "output", DIFFERS) and is_incomplete(run.errors):
            return None  # The program fails by what the question leaves out.
        ways = match(run.status, run.printed, run.errors, question.choices)
        if not any(ways):
            return None
        matched = [way for way in ways if way]
        detail = f"{'several ' if len(matched) > 1 else ''}{matched[0]}"
        side = ["matches" if way else "rival" for way in ways]
        return [
            (f"{one}: {matched[0]}", f"{one}: {detail}", f"{one}: {detail}, {observation.language}") for one in side
        ]


def _first_that_compiles(readings: Sequence[Extracted], sandbox: Sandbox) -> tuple[Extracted, Outcome]:
    """Return the first reading of a program that compiles, or else the first whose error no missing text causes."""
    runs = []
    for reading in readings:
        outcome = sandbox.run(Program(reading.language, reading.source), LIMITS)
        runs.append((reading, outcome))
        if outcome.status != "compile_error":
            return runs[-1]
    return next((run for run in runs if not is_incomplete(run[1].errors)), runs[0])


def _differs(reading: Extracted, outcome: Outcome, sandbox: Sandbox) -> bool:
    """Tell whether a program that may not be deterministic prints something else when it is run again."""
    if outcome.status != "ok" or not _CHANGING.search(reading.source):
        return False
    return sandbox.run(Program(reading.language, reading.source), LIMITS).printed != outcome.printed


def _completed(question: Question, sandbox: Sandbox) -> Observation:
    """Run the examples with each choice; each run says how many of them came out right."""
    examples = examples_of(question)
    tests = "\n".join(_TEST.format(call=call, wanted=wanted) for call, wanted in examples)
    programs = [f"{_HEAD}{program}\n{tests}\nprint(_right, _tried)" for program in filled(question)]
    results = sandbox.run_python(programs, _EACH)
    return Observation("python", tuple(Run(error or "ok", printed.strip()) for printed, error in results))


_HEAD = "from typing import *\nimport math, re, collections, itertools, functools\n_right = _tried = 0\n"
_COUNTS = re.compile(r"([0-9]{1,3}) ([0-9]{1,3})")
_TEST = """
_tried += 1
try:
    _value = {call}
    _right += repr(_value) == {wanted!r} or _value == ({wanted})
except NameError:
    raise
except Exception:
    pass
"""


def _passed(runs: Sequence[Run], examples: int) -> Sequence[Feature] | None:
    shares = [_share(run, examples) for run in runs]
    passing = sum(share == "all" for share in shares)
    if not passing or passing == len(shares):
        return None
    return [(share, f"{share}, {passing} pass") for share in shares]


def _share(run: Run, examples: int) -> str:
    # A program can print anything: only the two counts are evidence.
    numbers = _COUNTS.fullmatch(run.printed.rpartition("\n")[2])
    if run.status != "ok" or numbers is None:
        return "fails"
    right, tried = map(int, numbers.groups())
    if tried != examples:
        return "fails"
    return "all" if right == tried else "some" if right else "fails"
