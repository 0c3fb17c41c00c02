"""The examples in a docstring: calls of a function and their values, by prompt (`>>>`), arrow or equals sign."""

import ast
import re

from codemmlu.evidence.extraction import plain
from codemmlu.schema import Question

_MOST = 12
# The longest line that may hold an example, and the longest value in lines and characters: parsing takes far more
# memory than a text has.
_LINE, _LINES, _VALUE = 400, 20, 2_000


def examples_of(question: Question) -> list[tuple[str, str]]:
    """Return the calls and the texts of their values in the docstring of a question's last function."""
    text = plain(question.question)
    names = re.findall(r"^[ \t]*(?:async\s+)?def\s+(\w+)\s*\(", text, re.M)
    if not names:
        return []
    found = [*_prompted(text), *_written(text, names[-1])]
    valid = [(call, wanted) for call, wanted in dict.fromkeys(found) if _is_expression(call) and _is_literal(wanted)]
    return valid[:_MOST]


def _prompted(text: str) -> list[tuple[str, str]]:
    """Return examples in the notation of doctest: a call after the prompt, and the lines of its value below it."""
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for row, line in enumerate(lines):
        if not line.startswith(">>>"):
            continue
        wanted: list[str] = []
        for below in lines[row + 1 : row + 1 + _LINES]:
            if not below or below.startswith((">>>", '"""', "'''")) or (wanted and _is_literal(" ".join(wanted))):
                break
            wanted.append(below)
        found.append((line[3:].strip(), " ".join(wanted)))
        if len(found) == 2 * _MOST:
            break
    return found


def _written(text: str, name: str) -> list[tuple[str, str]]:
    """Return examples such as `f(1) == 2`, `f(1) => 2`, `f(1) returns 2`, one in a line."""
    pattern = rf"(?<![\w>])({re.escape(name)}\s*\(.*\))\s*(?:==|=>|->|➞|=|returns?|should return|#)\s*(.+?)\s*$"
    lines = [line for line in text.splitlines() if len(line) <= _LINE and name in line]
    matches = [match for line in lines[: 4 * _MOST] if (match := re.search(pattern, line))]
    return [(match[1], match[2].rstrip(".;")) for match in matches]


def _is_expression(text: str) -> bool:
    if len(text) > _VALUE:
        return False
    try:
        ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def _is_literal(text: str) -> bool:
    if len(text) > _VALUE:
        return False
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return False
    return True
