"""A look at a question file before anything is asked (`jobs/check.py`, and part of `--dry-run`)."""

from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from codemmlu.cli.console import Terminal
from codemmlu.cli.job import Outcome
from codemmlu.dataset import InMemory, QuestionStream
from codemmlu.dataset.dedup import content_key, near_duplicate_groups
from codemmlu.mcq import render
from codemmlu.recipe import load_questions
from codemmlu.schema import Question, Rejected

# Lines of a prompt, and characters of a line, that one screen has room for.
_LINES, _WIDTH = 14, 110
# Questions of which pairs that are nearly the same are looked for: a minute's work.
_MOST_COMPARED = 20_000
_REASONS = 5  # kinds of rejected rows that are shown with an example


def check(terminal: Terminal, arguments: Sequence[str]) -> Outcome:
    """Read a file as a run would, and print what was found in it; nothing is started.

    Args:
        terminal: Where to print.
        arguments: The file, or any other source, and overrides of `questions`.

    Returns:
        What was found, as one object.
    """
    source, *overrides = arguments
    stream, rows, rejected = QuestionStream(load_questions(source, list(overrides))), InMemory(), []
    for row in stream.rows():
        if isinstance(row, Rejected):
            rejected.append(row)
        else:
            rows.add(row)
    counts = f"{stream.labelled:,} with an answer, {stream.rejected:,} rejected"
    notes = [f"  {note}" for note in stream.notes()]
    terminal.say(f"{stream.questions:,} questions from {source}, {counts}")
    for line in (*findings(stream, rows), *notes, *_duplicates(rows), *_rejections(rejected)):
        terminal.say(line)
    for line in first_prompt(rows[0], "codemmlu"):
        terminal.say(line)
    report: dict[str, Any] = {
        "questions": stream.questions,
        "labelled": stream.labelled,
        "rejected": stream.rejected,
        "choices": dict(sorted(Counter(len(row.choices) for row in rows).items())),
        "columns": stream.cleaner.columns.by_field(),
        "unused": stream.cleaner.columns.unused(),
        "notes": stream.notes(),
    }
    return Outcome(report, 0)


def findings(stream: QuestionStream, rows: Sequence[Question]) -> list[str]:
    """Return lines on the columns, the answers and the numbers of choices."""
    columns = stream.cleaner.columns.by_field()
    used = "; ".join(f"{field}: {', '.join(names)}" for field, names in columns.items())
    sizes = Counter(len(row.choices) for row in rows)
    counts = ", ".join(f"{count:,} with {size}" for size, count in sorted(sizes.items()))
    lines = [f"  columns used: {used}", f"  choices: {counts}"]
    if stream.cleaner.example:
        written, letter = stream.cleaner.example
        lines.append(f"  answers: for example {written[:60]!r} is read as {letter}")
    return lines


def _duplicates(rows: Sequence[Question]) -> list[str]:
    """Return lines on questions whose text is repeated, or nearly so."""
    texts = Counter((content_key(row), tuple(sorted(row.choices))) for row in rows)
    same = sum(count - 1 for count in texts.values())
    lines = [f"  {same:,} questions repeat another one, text and choices alike: each is asked"] if same else []
    if len(rows) > _MOST_COMPARED:
        return [*lines, f"  more than {_MOST_COMPARED:,} questions: near-duplicates were not looked for"]
    near = sum(first != position for position, first in enumerate(near_duplicate_groups(rows))) - same
    return [*lines, f"  {near:,} questions are near-duplicates of an earlier one"] if near > 0 else lines


def _rejections(rejected: Sequence[Rejected]) -> list[str]:
    """Return the first rejected row of each kind."""
    first: dict[str, Rejected] = {}
    for row in rejected:
        first.setdefault(row.reason.partition(":")[0], row)
    return [
        f"  rejected, {PurePosixPath(row.file).name}:{row.line}: {row.reason}" for row in [*first.values()][:_REASONS]
    ]


def first_prompt(question: Question, template: str) -> list[str]:
    """Return the first question as a model will see it, cut to what a screen has room for."""
    prompt = render(question, template)
    lines = [line for message in prompt.messages for line in message.content.splitlines()]
    if len(lines) > _LINES:
        half = _LINES // 2
        lines = [*lines[:half], f"... {len(lines) - 2 * half:,} lines ...", *lines[-half:]]
    shown = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in lines]
    place = f"{PurePosixPath(question.file).name}:{question.line}"
    label = f"; the right answer is {question.answer}" if question.answer else ""
    return [f"The first question as it is sent ({place}{label}):", *(f"  | {line}" for line in shown)]
