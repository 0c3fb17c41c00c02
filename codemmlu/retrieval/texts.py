"""What of a question is embedded, and when two vectors are of one text."""

from codemmlu.recipe import ExampleSettings
from codemmlu.schema import Question

# The cosine from which on two questions are near-verbatim copies of each other.
TWINS = 0.97


def text_of(question: Question, settings: ExampleSettings) -> str:
    """The text that stands for a question in the index: `examples.text`."""
    if settings.text == "question":
        return question.question
    return "\n".join([question.question, *question.choices])
