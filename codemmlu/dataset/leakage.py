"""The leak guard: questions that stand among the examples, and examples that are the benchmark itself."""

from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.question_set import QuestionSet
from codemmlu.errors import UserError
from codemmlu.recipe import Recipe
from codemmlu.recipe.data import is_answered_set

# The share of the questions that stand among the examples from which on it is said loudly.
LOUD = 0.05


def leak_note(recipe: Recipe, questions: QuestionSet) -> str | None:
    """Return a warning where many questions stand among the examples, word for word.

    Such questions are neither learnt from nor fitted on, but examples that know them may know all others, too.

    Args:
        recipe: The recipe, with an examples.source.
        questions: The questions that are asked, and the examples.

    Returns:
        One line; None where few questions stand there.

    Raises:
        UserError: The examples are the benchmark with its answers, and some of the questions stand there.
    """
    asked = questions.content_keys
    found = len(asked & {content_key(example) for example in questions.examples})
    if found and is_answered_set(recipe.examples.source) and not recipe.examples.allow_same_set:
        raise UserError(
            f"{recipe.examples.source} holds {found:,} of the {len(asked):,} questions with their answers; take other "
            "examples, or set examples.allow_same_set=true and name that beside every figure",
            key="examples.source",
        )
    if found <= LOUD * len(asked):
        return None
    return (
        f"WARNING: {found:,} of {len(asked):,} questions ({found / len(asked):.0%}) stand among the examples word for "
        "word; they are not learnt from, but the examples may be the questions' own set"
    )
