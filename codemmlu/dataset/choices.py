"""The choices of a record: a list, a string that writes a list, or a column each; see `cleaner`."""

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

from codemmlu.schema import MAX_CHOICES

_OPTION_COLUMN = re.compile(r"(?!options|choices)(?:option|choice)[ _]?([a-z]|[0-9]{1,2})")
# An empty string matches too, so a match only makes `_joins_strings` look closer.
_STRINGS_SIDE_BY_SIDE = re.compile(r"""['"]\s*[rRbBuUfF]{0,2}['"]""")
_LONGEST_LITERAL = 2**18  # characters
_NUMBERS = (bool, int, float, complex)


class RejectedRow(Exception):
    """The reason why a record cannot be asked, written `kind` or `kind: details`; the notes count kinds."""


def listed(fields: Mapping[str, Any]) -> list[str]:
    """Return the choices of a row, from whichever columns hold them.

    Args:
        fields: The values of the row by column name, in lower case.

    Raises:
        RejectedRow: The row has no choices, or an empty option column before a filled one.
    """
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
    """Return the value of a field as text, with true and false as JSON writes them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _option_columns(fields: Mapping[str, Any]) -> list[str]:
    """Return the columns named as options (`option_a`, `choice_1`), by their letters or numbers.

    These columns go before columns named by single letters. Of single letters only the run from A on counts, because a
    letter after a gap may well mean something else.

    Raises:
        RejectedRow: The columns mix letters and numbers, name one option twice, or leave a letter out.
    """
    named = [(match[1], name) for name in fields if (match := _OPTION_COLUMN.fullmatch(name))]
    if len({key.isdigit() for key, _ in named}) > 1:
        raise RejectedRow("option columns with letters and with numbers")
    ordered = sorted((int(key) if key.isdigit() else string.ascii_lowercase.index(key), name) for key, name in named)
    positions, columns = [position for position, _ in ordered], [name for _, name in ordered]
    if len(set(positions)) < len(positions):
        raise RejectedRow(f"two columns for one option: {', '.join(columns)}")
    # Beside columns A, B and D an answer D could mean the third choice or the fourth.
    if ordered and not named[0][0].isdigit() and positions[-1] >= len(positions):
        raise RejectedRow(f"option columns with a letter left out: {', '.join(columns)}")
    return columns


def _choices(value: object) -> list[str]:
    """Return the choices in a list, or in a string that writes a list: parsed, never evaluated."""
    if isinstance(value, str | bytes):
        value = _parsed(plain(value).strip())
    if not isinstance(value, list | tuple):
        raise RejectedRow("no choices" if value is None else f"choices are not a list but {type(value).__name__}")
    if len(value) > MAX_CHOICES:
        return [""] * len(value)
    if any(isinstance(item, list | tuple | dict | set) for item in value):
        raise RejectedRow("choices hold a list inside the list")
    return [plain(item) for item in value]


def _parsed(text: str) -> object:
    """Return the value that a string writes; None for an empty string.

    Raises:
        RejectedRow: The string is neither JSON nor a Python literal.
    """
    if not text:
        return None
    # JSON goes first, because Python reads JSON's escape of one emoji as two lone surrogates. Python's parser takes a
    # thousand times the memory of a text.
    for parse in (_read_json, _read_python) if len(text) <= _LONGEST_LITERAL else (_read_json,):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError):
            continue
    raise RejectedRow("choices cannot be read as a list")


def _read_json(text: str) -> object:
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)


def _read_python(text: str) -> object:
    """Return the value of a literal; in a list, numbers and booleans stay as they are written."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of an escape such as \d, which a choice may contain.
        written = ast.parse(text, mode="eval").body
    if isinstance(written, ast.List | ast.Tuple) and len(written.elts) > MAX_CHOICES:
        return [""] * len(written.elts)  # They are rejected for their number; to find what each says takes long.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = ast.literal_eval(written)
    if not isinstance(written, ast.List | ast.Tuple):
        return value
    if _STRINGS_SIDE_BY_SIDE.search(text) and _joins_strings(text):
        raise RejectedRow("choices lack a comma between two strings")
    items = zip(written.elts, value, strict=True)
    return [ast.get_source_segment(text, node) if isinstance(item, _NUMBERS) else item for node, item in items]


def _joins_strings(text: str) -> bool:
    """Return whether a comma is missing between two strings, as in numpy's output; Python joins them."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind != tokenize.NL]
    return any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))
