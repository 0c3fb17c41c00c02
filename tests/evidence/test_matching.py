"""Matching what a program did to what the choices say of it."""

import pytest

from codemmlu.evidence.matching import match
from codemmlu.sandbox import Status


@pytest.mark.parametrize(
    ("status", "printed", "errors", "choices", "ways"),
    [
        ("ok", "1 2\n", "", ("12", "1  2", "2 1"), (None, "same", None)),
        ("ok", "Hello\n", "", ("hello", "bye"), ("same words", None)),
        ("ok", "['a']\n", "", ("[‘a’]", "[a, b]"), ("same", None)),
        ("ok", "3.50\n", "", ("3.5", "35"), ("same numbers", None)),
        ("ok", "5", "", ("6", "7"), (None, None)),
        ("ok", "Hi", "", ("It prints Hi", "Ho"), (None, None)),
        ("ok", "", "", ("0", "No output"), (None, "nothing")),
        ("compile_error", "", "main.c:1: error: x", ("1", "Compile time error"), (None, "names the error")),
        ("runtime_error", "", "ValueError: bad", ("KeyError", "ValueError"), (None, "names the error")),
        ("runtime_error", "", "ValueError: bad", ("no error", "1"), (None, None)),
        ("timeout", "", "", ("Infinite loop", "1"), ("endless", None)),
        ("memory", "", "", ("error", "1"), (None, None)),
    ],
)
def test_the_strictest_way_wins(
    status: Status, printed: str, errors: str, choices: tuple[str, ...], ways: tuple[str | None, ...]
) -> None:
    assert tuple(match(status, printed, errors, choices)) == ways
