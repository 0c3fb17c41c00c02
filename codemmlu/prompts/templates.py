"""The templates: how a question and its choices are worded. Each is a function, so braces in code mean nothing.

`codemmlu` puts the question first and the choices last, so that readings which only reorder the choices share the
question's tokens in the engine's prefix cache. `reference` is the reference project's answer template, word for word as
its README has it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codemmlu.rows import letters

Wording = Callable[[str, Sequence[str]], str]


@dataclass(frozen=True)
class Template:
    """wording: question and choices (as shown) to the user's message.

    prefill: how the model's answer begins; before_letter: what stands between that and the letter.
    """

    wording: Wording
    prefill: str = ""
    before_letter: str = ""


def _codemmlu(question: str, choices: Sequence[str]) -> str:
    shown = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters(len(choices)), choices, strict=True))
    return (
        "Here is a multiple-choice question about code.\n\n"
        f"{question}\n\n"
        f"Choices:\n{shown}\n\n"
        "Exactly one choice is right. Reply with its letter alone."
    )


def _reference(question: str, choices: Sequence[str]) -> str:
    shown = "\n\n".join(f"{letter}. {choice}" for letter, choice in zip(letters(len(choices)), choices, strict=True))
    return (
        "You are a programming expert and will answer multiple-choice questions about code.\n"
        "Read the following question and options carefully and select the **best** answer.\n\n"
        "### Response Format:\n"
        "- Reply with **only** the letter of the correct option.\n"
        "- Do not include any explanations.\n\n"
        f"###\n{question}\n\n"
        f"### Options:\n{shown}\n\n"
        "### Response:"
    )


TEMPLATES: dict[str, Template] = {
    "codemmlu": Template(_codemmlu, prefill="Answer:", before_letter=" "),
    "reference": Template(_reference),
}


def template_digest(name: str) -> str:
    """A hash of everything a template says, so that stored answers know the words they were given to."""
    template = TEMPLATES[name]
    said = template.wording("\0question\0", ("\0first\0", "\0second\0"))
    return hashlib.sha256("\1".join([said, template.prefill, template.before_letter]).encode()).hexdigest()[:16]
