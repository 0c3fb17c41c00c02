"""Examples: labelled questions to learn from; and the holdout, which splits one source into questions and examples."""

from dataclasses import replace
from pathlib import Path

from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.files import as_examples
from codemmlu.dataset.loader import load
from codemmlu.dataset.splits import assign
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings, HoldoutSettings, QuestionSettings, Recipe, digest
from codemmlu.schema import Question

# Before the task_id of an example that is asked to fit something on: a question may have the same one.
FIT = "fit/"

# How a source is read: what these say of questions and examples decides whether their rows are the same.
_READING = ("subjects", "columns", "answers", "encoding")


def is_same_source(questions: QuestionSettings, examples: ExampleSettings) -> bool:
    """Whether a holdout has one source to split. Raises UserError when the one source is read in two ways."""
    if questions.holdout is None or examples.source is None or _place(questions) != _place(examples):
        return False
    for name in _READING:
        if getattr(questions, name) != getattr(examples, name):
            raise UserError(
                f"questions.holdout: one source is split, so it is read one way: "
                f"examples.{name} must be what questions.{name} is"
            )
    return True


def _place(settings: QuestionSettings | ExampleSettings) -> tuple[str | None, ...]:
    """Where rows come from, however the path is written."""
    source = settings.source or ""
    path = Path(source).expanduser()
    return (str(path.resolve()) if path.exists() else source, settings.split, settings.revision)


def held_out(questions: QuestionSettings, holdout: HoldoutSettings) -> frozenset[str]:
    """The task_ids that are asked: the `n` labelled questions with the smallest seeded hash of their content.

    Raises UserError when that leaves no example.
    """
    rows = load(questions.model_copy(update={"limit": None})).rows()
    labelled = [row for row in rows if isinstance(row, Question) and row.answer]
    if holdout.n >= len(labelled):
        raise UserError(
            f"questions.holdout.n: {holdout.n:,} of {len(labelled):,} labelled questions leaves none as examples"
        )
    labelled.sort(key=lambda q: digest(holdout.seed, q.task_id, q.question, q.choices))
    return frozenset(question.task_id for question in labelled[: holdout.n])


def holdout_ids(recipe: Recipe) -> frozenset[str] | None:
    """The task_ids that a holdout asks, None where there is nothing to hold out of."""
    holdout = recipe.questions.holdout
    if holdout is None or not is_same_source(recipe.questions, recipe.examples):
        return None
    return held_out(recipe.questions, holdout)


def asked_content_keys(recipe: Recipe) -> frozenset[str]:
    """The twin keys of the questions that are asked: nothing is fitted on an example with one of them."""
    rows = load(recipe.questions, holdout_ids(recipe)).rows()
    return frozenset(content_key(row) for row in rows if isinstance(row, Question))


def read_examples(settings: ExampleSettings, held: frozenset[str]) -> tuple[list[Question], list[str]]:
    """The labelled questions of examples.source that are not held out, in file order, and what cleaning has to say.

    Raises UserError when there is none.
    """
    assert settings.source is not None
    fields = {name: getattr(settings, name) for name in QuestionSettings.model_fields if name != "holdout"}
    loaded = load(QuestionSettings(**fields))
    try:
        rows = [row for row in loaded.rows() if isinstance(row, Question) and row.answer and row.task_id not in held]
    except UserError as error:  # the readers know these settings by the questions' name
        raise UserError(as_examples(str(error))) from None
    if not rows:
        raise UserError(f"examples.source: {settings.source} has no question with an answer to learn from")
    return rows, [as_examples(note) for note in loaded.notes()]


def fit_examples(recipe: Recipe, held: frozenset[str]) -> tuple[Question, ...]:
    """The examples that something is fitted on: `vote.fit.limit` of the fit split, none of which is asked.

    Raises UserError when there is none.
    """
    if recipe.vote.fit is None:
        return ()
    examples, _ = read_examples(recipe.examples, held)
    asked = {content_key(row) for row in load(recipe.questions, held or None).rows() if isinstance(row, Question)}
    parts = assign(examples, recipe.seed)
    rows = [q for q, part in zip(examples, parts, strict=True) if part == "fit" and content_key(q) not in asked]
    if not rows:
        raise UserError("vote.fit: no example is left to fit on that is not asked itself; give more examples")
    rows.sort(key=lambda q: digest("fit", recipe.seed, q.question, q.choices, q.task_id))
    return tuple(replace(q, task_id=f"{FIT}{q.task_id}") for q in rows[: recipe.vote.fit.limit])
