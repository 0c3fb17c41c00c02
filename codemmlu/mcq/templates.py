"""The templates: the wording of a question and its choices. Each is a function, so braces in code mean nothing.

`codemmlu` puts the question first and the choices last, so that readings which only reorder the choices share the
question's tokens in the engine's prefix cache. `reference` is the answer template of the reference project, word for
word as in that project's README.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codemmlu.schema import letters

Wording = Callable[[str, Sequence[str]], str]


@dataclass(frozen=True)
class Template:
    """The wording of a prompt and the beginning of the model's answer.

    Attributes:
        wording: Function from the question and the choices, as shown, to the user's message.
        prefill: The beginning of the model's answer.
        before_letter: The text between the prefill and the letter.
    """

    wording: Wording
    prefill: str = ""
    before_letter: str = ""


def check_wording(question: str, choice: str) -> str:
    """Return the second turn of the reference project, which asks whether an answer is right."""
    return (
        "You are a programming expert and will verify the student's answer about code.\n"
        "Read the following question and verify whether the answer is correct.\n\n"
        "### Response Format:\n"
        "- Reply with **only** TRUE or FALSE.\n"
        "- Do not include any explanations.\n\n"
        f"### Question:\n{question}\n\n"
        f"### Answer:\n{choice}\n\n"
        "### Response:"
    )


def thinking_wording(question: str, choices: Sequence[str]) -> str:
    """Return the request to think about a question before answering."""
    return (
        f"{_shown(question, choices)}\n\n"
        "Exactly one choice is right. Think about how to solve it, step by step and briefly."
    )


def _shown(question: str, choices: Sequence[str]) -> str:
    shown = "\n".join(f"{letter}. {choice}" for letter, choice in zip(letters(len(choices)), choices, strict=True))
    return f"Here is a multiple-choice question about code.\n\n{question}\n\nChoices:\n{shown}"


AFTER_THINKING = "So which choice is right? Reply with its letter alone."


def _codemmlu(question: str, choices: Sequence[str]) -> str:
    return f"{_shown(question, choices)}\n\nExactly one choice is right. Reply with its letter alone."


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
    """Return a hash of a template's whole wording, by which stored answers record their wording."""
    template = TEMPLATES[name]
    text = template.wording("\0question\0", ("\0first\0", "\0second\0"))
    return hashlib.sha256("\1".join([text, template.prefill, template.before_letter]).encode()).hexdigest()[:16]


def wording_digest(wording: str) -> str:
    """Return a hash of a method's wording besides the template; empty for a method without one."""
    return hashlib.sha256(wording.encode()).hexdigest()[:16] if wording else ""
