"""Examples: labelled questions to learn from.

A holdout splits one source into questions, which are asked, and examples.
"""

from collections.abc import Sequence
from pathlib import Path

from codemmlu.dataset.loader import QuestionStream
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings, HoldoutSettings, QuestionSettings, digest
from codemmlu.schema import Question

# Prefix of the task_id of an example that is asked in order to fit on it: a question may have the same task_id.
FIT = "fit/"

# Settings of how a source is read. Questions and examples of one source are the same rows only where these are equal.
_READING = ("subjects", "columns", "answers", "escapes", "encoding")


def is_same_source(questions: QuestionSettings, examples: ExampleSettings) -> bool:
    """Return whether a holdout has one source to split.

    Raises:
        UserError: Questions and examples have one source, but read it in two ways.
    """
    if questions.holdout is None or examples.source is None or _location(questions) != _location(examples):
        return False
    for name in _READING:
        if getattr(questions, name) != getattr(examples, name):
            raise UserError(
                f"one source is split, so it is read one way: examples.{name} must be what questions.{name} is",
                key="questions.holdout",
            )
    return True


def _location(settings: QuestionSettings | ExampleSettings) -> tuple[str | None, ...]:
    """Return where rows come from; all ways to write an existing path give the same value."""
    source = settings.source or ""
    path = Path(source).expanduser()
    return (str(path.resolve()) if path.exists() else source, settings.split, settings.revision)


def choose_holdout(rows: Sequence[Question], holdout: HoldoutSettings) -> frozenset[str]:
    """Choose the `n` labelled questions that are asked, by the smallest seeded hash of their content.

    Returns:
        The task_ids of these questions.

    Raises:
        UserError: No example would be left.
    """
    labelled = [row for row in rows if row.answer]
    if holdout.n >= len(labelled):
        raise UserError(
            f"{holdout.n:,} of {len(labelled):,} labelled questions leaves none as examples", key="questions.holdout.n"
        )
    labelled.sort(key=lambda q: digest(holdout.seed, q.task_id, q.question, q.choices))
    return frozenset(question.task_id for question in labelled[: holdout.n])


def read_examples(settings: ExampleSettings) -> tuple[list[Question], list[str]]:
    """Read the labelled questions of examples.source.

    Returns:
        The questions in file order, and the notes of cleaning, one line per kind.

    Raises:
        UserError: The source cannot be read, or has no labelled question.
    """
    assert settings.source is not None
    fields = {
        name: getattr(settings, name) for name in QuestionSettings.model_fields.keys() & type(settings).model_fields
    }
    stream = QuestionStream(QuestionSettings(**fields), section="examples")
    rows = [row for row in stream.rows() if isinstance(row, Question) and row.answer]
    if not rows:
        raise UserError(f"{settings.source} has no question with an answer to learn from", key="examples.source")
    return rows, stream.notes()
