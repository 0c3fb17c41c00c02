"""The renderer: it turns a question, an order of the choices and the name of a template into a Prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from codemmlu.dataset.references import without_letters
from codemmlu.mcq.templates import AFTER_THINKING, TEMPLATES, Template, check_wording, thinking_wording
from codemmlu.schema import Question, letters


@dataclass(frozen=True)
class Message:
    """One message of a chat."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """The input of a model: the chat so far, and the beginning of the model's answer.

    Attributes:
        messages: The chat so far.
        prefill: The beginning of the answer.
        before_letter: What the model would write between the prefill and the letter (usually nothing or one space).
        order: order[i] is the index of the choice shown at letter i.
        words: The words to choose among where these are no letters; each is recognised by its first token.
    """

    messages: tuple[Message, ...]
    prefill: str
    before_letter: str
    order: tuple[int, ...]
    words: tuple[str, ...] = ()

    @property
    def letters(self) -> str:
        """Return the letters that the model chooses among."""
        return letters(len(self.order))


def render(
    question: Question, template: str, order: Sequence[int] | None = None, examples: Sequence[Question] = ()
) -> Prompt:
    """Return the prompt for one reading of a question.

    Args:
        question: The question to show.
        template: A name in TEMPLATES.
        order: Indices of the choices to show, in this order; None: all choices in the question's own order.
        examples: Solved questions, shown as earlier turns in this order; each needs its answer.

    Returns:
        The prompt, which ends where the letter belongs. Letters that the choices themselves begin with, in order, are
        left out, because another order would move them.

    Raises:
        ValueError: `order` is no order of the question's choices.
    """
    shown = tuple(order) if order is not None else tuple(range(len(question.choices)))
    if not shown or len(set(shown)) != len(shown) or not set(shown) <= set(range(len(question.choices))):
        raise ValueError(f"{shown} is no order of {len(question.choices)} choices")
    chosen = TEMPLATES[template]
    choices = without_letters(question.choices)
    text = chosen.wording(question.question, [choices[i] for i in shown])
    turns = [turn for example in examples for turn in _solved(example, chosen)]
    return Prompt((*turns, Message("user", text)), chosen.prefill, chosen.before_letter, shown)


def _solved(example: Question, template: Template) -> tuple[Message, Message]:
    """Return a solved question as a message of the user and the reply."""
    if example.answer is None:
        raise ValueError(f"{example.task_id} has no answer: it cannot be an example")
    reply = f"{template.prefill}{template.before_letter}{example.answer}"
    return Message("user", template.wording(example.question, example.choices)), Message("assistant", reply)


def render_check(question: Question, choice: int) -> Prompt:
    """Return the prompt that asks whether a choice is right: TRUE or FALSE, in this order."""
    text = check_wording(question.question, question.choices[choice])
    return Prompt((Message("user", text),), "", "", (0, 1), words=("TRUE", "FALSE"))


def render_thought(question: Question) -> Prompt:
    """Return the prompt that asks how to solve a question, to be answered in free text."""
    return Prompt((Message("user", thinking_wording(question.question, question.choices)),), "", "", ())


def render_after(thought: Prompt, reply: str, question: Question, template: str) -> Prompt:
    """Return the prompt that asks for the letter, after the free-text reply to the prompt `thought`."""
    chosen = TEMPLATES[template]
    turns = (Message("assistant", reply), Message("user", AFTER_THINKING))
    order = tuple(range(len(question.choices)))
    return Prompt((*thought.messages, *turns), chosen.prefill, chosen.before_letter, order)
