"""The renderer: a question, an order of its choices and a template's name become a Prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codemmlu.prompts.templates import TEMPLATES, Template
from codemmlu.rows import Question, letters


@dataclass(frozen=True)
class Message:
    """One turn of a chat."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """What a model is shown: the chat so far, and how its answer begins.

    before_letter: what the model would write between the prefill and the letter (usually nothing or one space).
    order: order[i] = index of the choice shown at letter i.
    """

    messages: tuple[Message, ...]
    prefill: str
    before_letter: str
    order: tuple[int, ...]

    @property
    def letters(self) -> str:
        """The letters the model chooses among."""
        return letters(len(self.order))


def render(
    question: Question, template: str, order: Sequence[int] | None = None, examples: Sequence[Question] = ()
) -> Prompt:
    """The prompt for one reading of a question.

    order: a permutation of its choices; None: as they stand
    examples: solved questions, shown as earlier turns in this order; each needs its answer
    """
    shown = tuple(order) if order is not None else tuple(range(len(question.choices)))
    if sorted(shown) != list(range(len(question.choices))):
        raise ValueError(f"{shown} is no order of {len(question.choices)} choices")
    chosen = TEMPLATES[template]
    text = chosen.wording(question.question, [question.choices[i] for i in shown])
    turns = [turn for example in examples for turn in _solved(example, chosen)]
    return Prompt((*turns, Message("user", text)), chosen.prefill, chosen.before_letter, shown)


def _solved(example: Question, template: Template) -> tuple[Message, Message]:
    if example.answer is None:
        raise ValueError(f"{example.task_id} has no answer: it cannot be an example")
    said = f"{template.prefill}{template.before_letter}{example.answer}"
    return Message("user", template.wording(example.question, example.choices)), Message("assistant", said)
