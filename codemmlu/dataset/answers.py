"""The answer column of a source: a letter, an index, a label or the text of a choice."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Literal

from codemmlu.dataset.choices import Choices
from codemmlu.dataset.values import is_blank, plain
from codemmlu.schema import letters

AnswerForm = Literal["letter", "zero-based", "one-based", "text"]
_NAMES = {"letter": "letter", "zero-based": "zero-based number", "one-based": "one-based number", "text": "text"}

# Characters. A longer text is no letter, and would cost the patterns below quadratic time.
_LONGEST_ANSWER = 100
_DECORATED_LETTER = re.compile(
    r"""[*_`"'$]*+
        (?:(?:(?:the\ +)?(?:(?:final|correct|right|best)\ +)?(?:answer|ans|option|choice)(?:\b|_)|correct\b)
           (?:\ +is\b)?[\s.:=*\-]*+){0,2}
        (?:\\boxed\{|<b>)?[*_`"'$(\[]*+([A-Za-z])[*_`"'$)\].:]*+(?:\}|</b>)?""",
    re.IGNORECASE | re.VERBOSE,
)
_LETTER_AND_TEXT = re.compile(r"[(\[*]?([A-Za-z])(?:[)\].:*]+\s*|\s+)(\S.*)", re.DOTALL)
# In a column that also has missing values, pandas writes an index such as 2 as 2.0.
_NUMBER = re.compile(r"([0-9]{1,3})(?:\.0)?")
# From exact to loose: the first way in which one choice alone is equal decides.
_LOOSENESS: tuple[Callable[[str], str], ...] = (
    str,
    str.strip,
    lambda text: " ".join(text.split()).casefold(),
    lambda text: " ".join(text.split()).casefold().removeprefix("answer: ").rstrip("."),
)

AS_TEXT = "answers that are the text of a choice: read as its letter"
CONFLICT = "answers that are a letter and the text of another choice: unlabelled"
SEVERAL = "answers that name several choices: unlabelled"
NUMBERS = "answers that are numbers: unlabelled; set {section}.answers to zero-based or one-based"

# The note of an answer that only the other base has.
OUT_OF_BASE: dict[AnswerForm, str] = {
    "zero-based": "answers that are the number of choices, which no zero-based number is: unlabelled",
    "one-based": "answers that are 0, which no one-based number is: unlabelled",
}

# The index of the right choice, if there is one, and a note.
ReadAnswer = tuple[int | None, str | None]


def parse_answer_letter(text: str) -> str | None:
    """Return the letter of a text such as `ANSWER: **B**`; None where the text is no letter or says more."""
    text = text.strip()
    if len(text) > _LONGEST_ANSWER:
        return None
    match = _DECORATED_LETTER.fullmatch(unicodedata.normalize("NFKC", text))  # Ｂ and Ⓑ become B.
    return match[1].upper() if match else None


def read_answer(value: object, choices: Choices, form: AnswerForm) -> ReadAnswer:
    """Return the index of the right choice, and a note where the answer is odd.

    Args:
        value: The field.
        choices: The choices of the row.
        form: The form in which the source writes answers, as the recipe says.
    """
    if is_blank(value):
        return choices.marked, None
    if isinstance(value, list | tuple):
        if len(value) > 1:
            return None, SEVERAL
        value = value[0]
    text = plain(value)
    if form == "text":
        index = _by_text(text, choices.texts)
        index = _by_letter_and_text(text, choices.texts) if index is None else index
        return index, None if index is not None else _unreadable(form)
    if form == "letter":
        return _by_letter(text, choices)
    number = _NUMBER.fullmatch(text.strip()) if len(text) <= _LONGEST_ANSWER else None
    index = int(number[1]) - (form == "one-based") if number else None
    if index is None or not 0 <= index < len(choices.texts):
        is_of_other_base = index == (len(choices.texts) if form == "zero-based" else -1)
        return None, OUT_OF_BASE[form] if is_of_other_base else _unreadable(form)
    return index, None


def _by_letter(text: str, choices: Choices) -> ReadAnswer:
    names = letters(len(choices.texts))
    label = text.strip().casefold()
    labelled = [i for i, name in enumerate(choices.labels) if name.strip().casefold() == label]
    if len(labelled) == 1:
        return labelled[0], None
    letter = parse_answer_letter(text)
    if letter and letter in names:
        index = names.index(letter)
        is_other = text.strip() in choices.texts and choices.texts.index(text.strip()) != index
        return (None, CONFLICT) if is_other else (index, None)
    if letter and text.strip() in choices.texts:
        return choices.texts.index(text.strip()), AS_TEXT
    if letter:
        return None, f"answer {letter} of {len(names)} choices: unlabelled"
    if (same := _by_text(text, choices.texts)) is not None:
        return same, AS_TEXT
    if (both := _by_letter_and_text(text, choices.texts)) is not None:
        return both, None
    return None, NUMBERS if _NUMBER.fullmatch(text.strip()[:_LONGEST_ANSWER]) else _unreadable("letter")


def _by_letter_and_text(text: str, texts: Sequence[str]) -> int | None:
    """Return the choice of an answer such as `B. Rome`, where letter and text name the same choice."""
    match = _LETTER_AND_TEXT.fullmatch(text.strip())
    index = ord(match[1].upper()) - ord("A") if match else len(texts)
    return index if match and index < len(texts) and _by_text(match[2], texts) == index else None


def _by_text(text: str, texts: Sequence[str]) -> int | None:
    """Return the one choice that has this text; differences in blanks, case and a full stop count last."""
    for loosened in _LOOSENESS:
        matches = [i for i, choice in enumerate(texts) if loosened(choice) == loosened(text)]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def _unreadable(form: AnswerForm) -> str:
    return f"answers that are not the {_NAMES[form]} of one choice: unlabelled"
