"""The renderer: a question, an order of its choices and a template's name become a Prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codemmlu.mcq.templates import AFTER_THINKING, TEMPLATES, Template, check_wording, thinking_wording
from codemmlu.schema import Question, letters


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
    words: what the model chooses among where it is no letters; each is told by its first token.
    """

    messages: tuple[Message, ...]
    prefill: str
    before_letter: str
    order: tuple[int, ...]
    words: tuple[str, ...] = ()

    @property
    def letters(self) -> str:
        """The letters the model chooses among."""
        return letters(len(self.order))


def render(
    question: Question, template: str, order: Sequence[int] | None = None, examples: Sequence[Question] = ()
) -> Prompt:
    """The prompt for one reading of a question.

    order: which of its choices are shown, in which order; None: all, as they stand
    examples: solved questions, shown as earlier turns in this order; each needs its answer
    """
    shown = tuple(order) if order is not None else tuple(range(len(question.choices)))
    if not shown or len(set(shown)) != len(shown) or not set(shown) <= set(range(len(question.choices))):
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


def render_check(question: Question, choice: int) -> Prompt:
    """Whether a choice is right: the words TRUE and FALSE, in this order."""
    text = check_wording(question.question, question.choices[choice])
    return Prompt((Message("user", text),), "", "", (0, 1), words=("TRUE", "FALSE"))


def render_thought(question: Question) -> Prompt:
    """How one would solve a question, in free text."""
    return Prompt((Message("user", thinking_wording(question.question, question.choices)),), "", "", ())


def render_after(thought: Prompt, said: str, question: Question, template: str) -> Prompt:
    """The letter, after a thought."""
    chosen = TEMPLATES[template]
    turns = (Message("assistant", said), Message("user", AFTER_THINKING))
    order = tuple(range(len(question.choices)))
    return Prompt((*thought.messages, *turns), chosen.prefill, chosen.before_letter, order)
