"""A record's choices: a list, a string that writes one, or a column for each. Which, see `clean`."""

import ast
import io
import itertools
import json
import re
import string
import tokenize
import warnings
from collections.abc import Mapping
from typing import Any

_OPTION_COLUMN = re.compile(r"(?!options|choices)(?:option|choice)[ _]?([a-z]|[0-9]{1,2})")
_STRINGS_SIDE_BY_SIDE = re.compile(r"""['"]\s*[rRbBuUfF]{0,2}['"]""")  # or one that is empty
_NUMBERS = (bool, int, float, complex)


class RejectedRow(Exception):
    """Why a record cannot be asked, written `kind` or `kind: details`; the notes count kinds."""


def listed(fields: Mapping[str, Any]) -> list[str]:
    """A row's choices, wherever they stand, by the names of its fields in lower case. Raises FaultyError."""
    if "choices" in fields:
        return _choices(fields["choices"])
    columns = _option_columns(fields)
    if not columns and "options" in fields:
        return _choices(fields["options"])
    columns = columns or list(itertools.takewhile(fields.__contains__, string.ascii_lowercase))
    if not columns:
        raise RejectedRow("no choices")
    texts = [plain(fields[name]) for name in columns]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        raise RejectedRow("an empty option column before a filled one")
    return texts


def plain(value: object) -> str:
    """A field's value as text; true and false as JSON has them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _option_columns(fields: Mapping[str, Any]) -> list[str]:
    """The columns that say that they are options (`option_a`, `choice_1`), in the order of their letters or numbers.

    They count before single letters, and of those the run from A on: a letter after a gap may well mean something else.
    """
    named = [(match[1], name) for name in fields if (match := _OPTION_COLUMN.fullmatch(name))]
    if len({key.isdigit() for key, _ in named}) > 1:
        raise RejectedRow("option columns with letters and with numbers")
    at = sorted((int(key) if key.isdigit() else string.ascii_lowercase.index(key), name) for key, name in named)
    places, columns = [place for place, _ in at], [name for _, name in at]
    if len(set(places)) < len(places):
        raise RejectedRow(f"two columns for one option: {', '.join(columns)}")
    if at and not named[0][0].isdigit() and places[-1] >= len(places):  # is an answer D the third or the fourth?
        raise RejectedRow(f"option columns with a letter left out: {', '.join(columns)}")
    return columns


def _choices(value: object) -> list[str]:
    """The choices of a list, or of a string that writes one; read as a literal, never evaluated."""
    if isinstance(value, str | bytes):
        value = _parsed(plain(value).strip())
    if not isinstance(value, list | tuple):
        raise RejectedRow("no choices" if value is None else f"choices are not a list but {type(value).__name__}")
    if any(isinstance(item, list | tuple | dict | set) for item in value):
        raise RejectedRow("choices hold a list inside the list")
    return [plain(item) for item in value]


def _parsed(text: str) -> object:
    """The value that a string writes, None for an empty one. JSON first: Python reads JSON's escape of one emoji as
    two lone surrogates."""
    if not text:
        return None
    for parse in (_read_json, _read_python):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
    raise RejectedRow("choices cannot be read as a list")


def _read_json(text: str) -> object:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _read_python(text: str) -> object:
    """A literal's value; of a list all but strings and None as they are written there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an escape such as \d in somebody's choice
        written = ast.parse(text, mode="eval").body
        value = ast.literal_eval(written)
    if not isinstance(written, ast.List | ast.Tuple):
        return value
    if _STRINGS_SIDE_BY_SIDE.search(text) and _joins_strings(text):
        raise RejectedRow("choices lack a comma between two strings")
    read = zip(written.elts, value, strict=True)
    return [ast.get_source_segment(text, node) if isinstance(item, _NUMBERS) else item for node, item in read]


def _joins_strings(text: str) -> bool:
    """Whether two strings stand side by side, which Python takes for one: numpy prints its arrays so."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind != tokenize.NL]
    return any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))
