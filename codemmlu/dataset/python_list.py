"""Choices in a string that writes a Python list or tuple: parsed, never evaluated."""

import ast
import io
import itertools
import re
import tokenize
import warnings

from codemmlu.dataset.values import RejectedRow
from codemmlu.schema import MAX_CHOICES

# An empty string matches too, so a match only makes `_joins_strings` look closer.
_STRINGS_SIDE_BY_SIDE = re.compile(r"""['"]\s*[rRbBuUfF]{0,2}['"]""")
_TIGHT_COMMA = re.compile(r"[0-9],[0-9]")
_SPACED_COMMA = re.compile(r"[0-9],[ \t]+[0-9]")
_NUMBER_PART = re.compile(r"0[0-9]+")
# An escape that Python reads as a control character where LaTeX, a path or a regular expression may be meant.
# A line feed, a return or a tab is doubtful only in a command of LaTeX and in a path, as code is full of them.
_DOUBTFUL_ESCAPE = re.compile(
    r"""(?<!\\)(?:\\\\)*\\(?:[abfv]|(?:n(?:u|eq?|abla|ot|otin)|r(?:ho|ight\w*)|t(?:imes|heta|au|ext\w*|an|frac|o))
        (?![A-Za-z]))|\b[A-Za-z]:\\[nrt]""",
    re.VERBOSE,
)
_LONGEST_LITERAL = 2**18  # characters; Python's parser takes a thousand times the memory of a text
_WRITTEN_AS_IS = (bool, int, float, complex, type(None))


def read_python(text: str, keep_escapes: bool = False) -> object:
    """Return the value of a literal; in a list, numbers, booleans and None stay as they are written.

    Args:
        text: The literal.
        keep_escapes: Whether a backslash stands for itself.

    Returns:
        The value; a list of strings where the literal is a list or a tuple.

    Raises:
        RejectedRow: It is a list, but it does not say for sure what its items are.
        ValueError: It is too long. Where it is no literal, the errors are those of ast.parse, ast.literal_eval and
            tokenize.
    """
    if len(text) > _LONGEST_LITERAL:
        raise ValueError("too long for a literal")
    written = _parsed(text)
    if isinstance(written, ast.List | ast.Tuple) and len(written.elts) > MAX_CHOICES:
        return [""] * len(written.elts)  # They are rejected for their number; to find what each says takes long.
    value = ast.literal_eval(written)
    if not isinstance(written, ast.List | ast.Tuple):
        return value
    if _STRINGS_SIDE_BY_SIDE.search(text) and _joins_strings(text):
        raise RejectedRow("choices lack a comma between two strings")
    if any(item is ... for item in value):
        raise RejectedRow("choices hold `...`: the list was cut when it was printed")
    numbers = [ast.get_source_segment(text, node) or "" for node in written.elts if _is_number(node)]
    if numbers and _may_be_one_number(text, numbers):
        raise RejectedRow("choices are numbers with commas, and it is not known which commas separate: add quotes")
    return [_item(text, node, item, keep_escapes) for node, item in zip(written.elts, value, strict=True)]


def has_doubtful_escape(text: str) -> bool:
    r"""Return whether a literal has an escape such as the \f of \frac, which Python reads as one control character."""
    return _DOUBTFUL_ESCAPE.search(text) is not None


def _parsed(text: str) -> ast.expr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of an escape such as \d, which a choice may contain.
        return ast.parse(text, mode="eval").body


def _item(text: str, node: ast.expr, value: object, keep_escapes: bool) -> object:
    if isinstance(value, _WRITTEN_AS_IS):
        return ast.get_source_segment(text, node)
    if keep_escapes and isinstance(value, str):
        return _as_written(ast.get_source_segment(text, node) or "")
    return value


def _as_written(literal: str) -> str:
    """Return the text between the quotes of a string literal, in which a backslash hides nothing but a quote."""
    body = literal.lstrip("rRuU")
    quote = body[:3] if body[:3] in ("'''", '"""') else body[:1]
    return body[len(quote) : -len(quote)].replace(f"\\{quote[:1]}", quote[:1])


def _is_number(node: ast.expr) -> bool:
    inner = node.operand if isinstance(node, ast.UnaryOp) else node
    return isinstance(inner, ast.Constant) and type(inner.value) in (int, float)


def _may_be_one_number(text: str, numbers: list[str]) -> bool:
    """Return whether a comma may belong to a number, as in `10,000, 20,000` and `1,5, 2,5`."""
    if any(_NUMBER_PART.fullmatch(number) for number in numbers):
        return True
    is_bare = text.strip()[:1] not in "[("
    return _TIGHT_COMMA.search(text) is not None and (is_bare or _SPACED_COMMA.search(text) is not None)


def _joins_strings(text: str) -> bool:
    """Return whether a comma is missing between two strings, as in numpy's output; Python joins them."""
    kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    kinds = [kind for kind in kinds if kind != tokenize.NL]
    return any(pair == (tokenize.STRING, tokenize.STRING) for pair in itertools.pairwise(kinds))
