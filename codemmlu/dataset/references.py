"""Choices that refer to letters or positions, and letters that stand before the choices in their own texts.

Such choices mean something only in the order in which the source has them: "Both A and B", "All of the above". A
question that has one is read in its own order alone. A letter that every choice has before its text, in order, as in
"(A) yes" and "(B) no", is left out of a prompt, which adds letters.
"""

import re
from collections.abc import Sequence

from codemmlu.schema import letters

_LETTER = r"(?:\(?[A-H]\)?|\([a-h]\))"
_ABOVE = re.compile(
    r"\b(?:all|none|any|both|neither|either|each|some|more than one|one|two)\b(?: of)?(?: the)?(?: \w+)? "
    r"(?:above|below|other (?:choices|options|answers))\b|\bthe above\b|\babove (?:choices|options|answers)\b",
    re.IGNORECASE,
)
_PAIR = re.compile(
    rf"(?i:both|either|neither|only|options?|choices?|answers?)?\s*{_LETTER}(?:\s*,\s*{_LETTER})*"
    rf"(?:\s*,?\s*(?i:and|or|nor|&)\s*{_LETTER})(?:\s+(?i:only|are|is|both)\b.*)?[.]?",
)
_NAMED = re.compile(rf"\b(?:[Oo]ptions?|[Cc]hoices?|[Aa]nswers?)\s+{_LETTER}(?![\w'])")
_PREFIX = re.compile(r"\s*(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Za-z])[.):])\s*")
_LISTED = re.compile(r"^\s*\(?([A-Z])[.):]\s*\S", re.MULTILINE)


def references_position(question: str, choices: Sequence[str]) -> bool:
    """Return whether the choices mean something in their own order alone.

    Args:
        question: The text of the question: choices that are bare letters refer to a list of options in it.
        choices: The texts of the choices.
    """
    if any(_refers(choice) for choice in choices):
        return True
    names = letters(len(choices))
    if [choice.strip(" ().").upper() for choice in choices] == list(names):
        return [letter.upper() for letter in _LISTED.findall(question)][-len(names) :] == list(names)
    return False


def _refers(choice: str) -> bool:
    text = " ".join(choice.split())
    if len(text) > 200:  # No reference is so long, and code is full of letters.
        return False
    return bool(_ABOVE.search(text) or _PAIR.fullmatch(text) or _NAMED.search(text))


def without_letters(choices: Sequence[str]) -> tuple[str, ...]:
    """Return the texts without the letters before them, where every choice has one; else the texts as they are."""
    matches = [_PREFIX.match(choice) for choice in choices]
    found = "".join(next(filter(None, match.groups())).upper() for match in matches if match)
    if found != letters(len(choices)):
        return tuple(choices)
    texts = tuple(choice[match.end() :] for choice, match in zip(choices, matches, strict=True) if match)
    return texts if all(text.strip() for text in texts) else tuple(choices)
