"""The choices of a record: a list, a string that writes a list, an object, or a column each; see `cleaner`."""

import json
import tokenize
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from codemmlu.dataset.python_list import has_doubtful_escape, read_python
from codemmlu.dataset.values import RejectedRow, is_blank, plain
from codemmlu.schema import MAX_CHOICES

# The names under which objects write the text of a choice, its label, and all choices.
_TEXT, _LABEL, _ALL = ("text", "content", "value", "option", "choice"), ("label", "key", "id"), ("choices", "text")


@dataclass(frozen=True)
class Choices:
    r"""The choices of a row as the source writes them.

    Attributes:
        texts: The text of each choice.
        labels: The source's own name of each choice, where it has names; else empty.
        marked: The index of the choice that the source marks as right.
        has_doubtful_escape: Whether a backslash was read as part of a control character, such as the \f of \frac.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    marked: int | None = None
    has_doubtful_escape: bool = False


def read_choices(value: Any, keep_escapes: bool = False) -> Choices:
    """Return the choices in a list, in an object, or in a string that writes one: parsed, never evaluated.

    Args:
        value: The field.
        keep_escapes: Whether a backslash in a string that writes a list stands for itself.

    Returns:
        The choices; a field that holds none is rejected.
    """
    doubtful = False
    if isinstance(value, str | bytes):
        text = plain(value).strip()
        value, doubtful = _parsed(text, keep_escapes), not keep_escapes and has_doubtful_escape(text)
    choices = _of_object(value) if isinstance(value, dict) else _of_list(value)
    return replace(choices, has_doubtful_escape=doubtful)


def _of_list(value: object) -> Choices:
    """Return the choices in a list of texts, or of objects with a text, and maybe a label, each."""
    if not isinstance(value, list | tuple):
        raise RejectedRow("no choices" if value is None else f"choices are not a list but {type(value).__name__}")
    if len(value) > MAX_CHOICES:
        raise RejectedRow(_too_many(len(value)))
    if value and all(isinstance(item, dict) for item in value):
        texts, labels = [_first(item, _TEXT) for item in value], [_first(item, _LABEL) for item in value]
        if not all(isinstance(text, str | int | float) for text in texts):
            raise RejectedRow("choices are objects without a text")
        return Choices(_plain(texts), () if None in labels else _plain(labels))
    if any(isinstance(item, list | tuple | dict | set) for item in value):
        raise RejectedRow("choices hold a list inside the list")
    return Choices(_plain(value))


def _of_object(value: dict[str, Any]) -> Choices:
    """Return the choices in `{text: [...], label: [...]}`, `{choices: [...], labels: [0, 1]}` or `{A: ..., B: ...}`."""
    texts, labels = _first(value, _ALL), _first(value, ("label", "labels"))
    if isinstance(texts, list | tuple):
        choices = _of_list(texts)
        if not isinstance(labels, list | tuple) or len(labels) != len(texts):
            return choices
        names = _plain(labels)
        if set(names) == {"0", "1"} and names.count("1") == 1 and "labels" in value:
            return replace(choices, marked=names.index("1"))
        return replace(choices, labels=names)
    if len(value) > MAX_CHOICES:
        raise RejectedRow(_too_many(len(value)))
    names = tuple(name.strip().upper() for name in value)
    numbers = [tuple(str(i + start) for i in range(len(names))) for start in (0, 1)]
    if names in (tuple(map(chr, range(ord("A"), ord("A") + len(names)))), *numbers):
        return Choices(without_holes(list(value.values())), names)
    raise RejectedRow("choices are an object without texts")


def without_holes(texts: list[Any]) -> tuple[str, ...]:
    """Return texts without blank ones at the end, which are choices that the question does not have.

    Raises:
        RejectedRow: A choice in the middle is empty.
    """
    while texts and is_blank(texts[-1]):
        texts.pop()
    if any(plain(text) == "" for text in texts):
        raise RejectedRow("an empty option column before a filled one")
    return _plain(texts)


def _too_many(count: int) -> str:
    return f"{count} choices, where 2 to {MAX_CHOICES} can be asked"


def _plain(values: Sequence[object]) -> tuple[str, ...]:
    return tuple(map(plain, values))


def _first(value: dict[str, Any], names: Sequence[str]) -> Any:
    lower = {name.lower(): item for name, item in value.items()}
    return next((lower[name] for name in names if name in lower), None)


def _parsed(text: str, keep_escapes: bool) -> object:
    """Return the value that a string writes; None for an empty string.

    Raises:
        RejectedRow: The string is neither JSON nor a Python literal.
    """
    if not text:
        return None
    # JSON goes first, because Python reads JSON's escape of one emoji as two lone surrogates.
    parsers: list[Callable[[str], object]] = [_read_json, partial(read_python, keep_escapes=keep_escapes)]
    for parse in reversed(parsers) if keep_escapes else parsers:
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
    raise RejectedRow("choices cannot be read as a list")


def _read_json(text: str) -> object:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
