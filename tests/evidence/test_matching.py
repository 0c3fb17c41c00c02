"""Matching what a program did to what the choices say of it."""

import pytest

from codemmlu.evidence.matching import DIFFERS, match


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
        (DIFFERS, "17", "", ("17", "depends on the machine"), (None, "not defined")),
        ("ok", "17", "", ("undefined", "18"), ("not defined", None)),
        ("ok", "17", "", ("undefined", "17"), (None, "same")),
        ("ok", "Hi\nHi\nHi\n", "", ("it prints Hi 3 times", "it prints Hi 2 times"), ("so often", None)),
        ("ok", "Not Equal", "", ("It will print Not Equal.", "It will print Equal."), ("says it", None)),
    ],
)
def test_the_strictest_way_wins(
    status: str, printed: str, errors: str, choices: tuple[str, ...], ways: tuple[str | None, ...]
) -> None:
    assert tuple(match(status, printed, errors, choices)) == ways
