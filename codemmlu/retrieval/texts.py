"""What of a question is embedded, and when two questions are the same."""

import hashlib

from codemmlu.recipe import ExampleSettings
from codemmlu.rows import Question

# The cosine from which on two questions are near-verbatim copies of each other.
TWINS = 0.97


def text_of(question: Question, settings: ExampleSettings) -> str:
    """The text that stands for a question in the index: `examples.text`."""
    if settings.text == "question":
        return question.question
    return "\n".join([question.question, *question.choices])


def normalised(text: str) -> str:
    """Without case and without differences in whitespace, in which copies of a question differ."""
    return " ".join(text.lower().split())


def twin_key(question: Question) -> str:
    """Equal for questions with the same normalised text, whatever their choices and task_ids: 32 hex digits."""
    return hashlib.sha256(normalised(question.question).encode()).hexdigest()[:32]
