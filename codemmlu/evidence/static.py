"""The probe `static`: programs are compiled or parsed, alone or with each choice in its place, and never run."""

import re
from collections.abc import Sequence

from codemmlu.dataset.kind import GAP, kind_of, outcome_of
from codemmlu.evidence.extraction import language_of, plain
from codemmlu.evidence.frequencies import Feature
from codemmlu.evidence.probe import LIMITS, Observation, Run, run_of
from codemmlu.evidence.python_check import check_python
from codemmlu.sandbox import Program, Sandbox
from codemmlu.schema import Question

# What a checker means by each status.
_FAULTS = {"SyntaxError": "syntax", "IndentationError": "syntax", "TabError": "syntax"}


_HEADING = re.compile(r"\b(?:solution|code|snippet|program)\b", re.I)


class Static:
    """What a compiler or parser says of a program."""

    version = 1
    artefact = False
    uses_tools = True

    def language(self, question: Question) -> str | None:
        """Return the language of the program of a question about code that is to be judged or completed."""
        kind = kind_of(question)
        if kind == "defect":
            return language_of("", _program(question))
        if kind in ("completion", "fill_in_the_middle"):
            return "python" if language_of("", _program(question)) == "python" else None
        return None

    def observe(self, question: Question, sandbox: Sandbox | None) -> Observation | None:
        """Check the program; where it has a gap or no body, once with each choice in its place."""
        assert sandbox is not None
        language = self.language(question)
        if language is None:
            return None
        kind = kind_of(question)
        if kind != "defect":
            return Observation(language, tuple(check_python(sandbox, filled(question))))
        source = _program(question)
        if language == "python":
            return Observation(language, tuple(check_python(sandbox, [source])))
        # A judge names the file before it knows the program: Java wants its public class to have that name.
        file = "Main.java" if language == "java" else ""
        outcome = sandbox.run(Program(language, source, "check", file=file), LIMITS)
        return (
            None
            if outcome.status in ("timeout", "memory", "unsupported")
            else Observation(language, (run_of(outcome),))
        )

    def features(self, question: Question, observation: Observation) -> Sequence[Feature] | None:
        """Return status and offered outcome of each choice; with choices in place, which break the program."""
        if kind_of(question) == "defect":
            status = _status(observation.runs[0])
            outcomes = [outcome_of(choice) or "" for choice in question.choices]
            return [
                (outcome, f"{outcome}, {status}", f"{outcome}, {status}, {observation.language}")
                for outcome in outcomes
            ]
        faults = [_status(run) for run in observation.runs]
        if len(set(faults)) == 1:
            return None
        ok = sum(fault == "ok" for fault in faults)
        return [(fault, f"{fault}, {min(ok, 2)} whole") for fault in faults]


def _status(run: Run) -> str:
    if run.status == "ok":
        return "undefined" if run.printed else "ok"
    return _FAULTS.get(run.status, "faulty")


def _program(question: Question) -> str:
    """Return the text after the instruction, which ends with its first line or with a heading of its own."""
    text = re.sub(r"\A\s*Question\s*:\s*", "", plain(question.question))
    lines = text.split("\n")
    for row, line in enumerate(lines):
        if line.rstrip(" \t").endswith(":") and _HEADING.search(line):
            return "\n".join(lines[row + 1 :]).strip("\n") + "\n"
    return text.partition("\n")[2].strip("\n") + "\n"


def filled(question: Question) -> list[str]:
    """Return the program with each choice in its gap, or as the body of its last function."""
    code = _program(question)
    if kind_of(question) == "fill_in_the_middle":
        gap = GAP.search(code)
        if gap is None:
            return [code] * len(question.choices)
        return [f"{code[: gap.start()]}{choice}\n{code[gap.end() :]}" for choice in map(plain, question.choices)]
    start = re.search(r"^(?:from|import|def|class|@|async)\b", plain(question.question), re.M)
    head = plain(question.question)[start.start() :] if start else code
    return [f"{head.rstrip()}\n{indented(plain(choice))}\n" for choice in question.choices]


def indented(body: str) -> str:
    """Return a function's body with its first line indented like a body."""
    body = body.strip("\n")
    if body[:1].isspace() or not body:
        return body
    rest = body.splitlines()[1:]
    depth = min((len(line) - len(line.lstrip()) for line in rest if line.strip()), default=4)
    return ("    " + body) if depth else "\n".join("    " + line for line in body.splitlines())
