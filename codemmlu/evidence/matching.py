"""Matching: which choice says what a program did."""

import re
from collections.abc import Sequence

from codemmlu.evidence.extraction import plain

# Two runs of a program printed different texts.
DIFFERS = "differs"
# The ways to match, from the strictest to the loosest.
TYPES = (
    *("same", "same words", "same numbers", "names the error", "an error", "nothing", "endless"),
    *("so often", "says it", "not defined"),
)

# What a program says that was not whole when it was copied: its failure may not be what the question means.
_INCOMPLETE = re.compile(
    r"NameError|undeclared|not declared|cannot find symbol|is not defined|No such file|No module named|"
    r"unknown type name|stray |missing terminating|invalid character|Cannot use import"
)

_ERROR = re.compile(
    r"\berrors?\b|exception|segmentation|segfault|crash|abort|fault|invalid|illegal|undefined behavio", re.I
)
_COMPILE = re.compile(r"compil|syntax|\berrors?\b", re.I)
_RUN = re.compile(r"run[\s-]*time|exception|segmentation|segfault|crash|abort|core dump|\berrors?\b", re.I)
_NO_ERROR = re.compile(r"\bno\b.{0,20}\berror|without\b.{0,20}\berror", re.I)
_NOTHING = re.compile(r"no output|nothing|blank|empty|no thing|doesn.t print|not print|none is printed", re.I)
_ENDLESS = re.compile(r"infinite|endless|for ?ever|never (ends|stops)|unlimited|stack overflow", re.I)
# What a choice says of a program whose output the language, or the machine, does not determine.
_UNDEFINED = re.compile(
    r"undefined|garbage|unpredictable|depend|random|differ|address|process id|\bpid\b|varies|be predicted", re.I
)
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def match(status: str, printed: str, errors: str, choices: Sequence[str]) -> list[str | None]:
    """Return how each choice matches what a program did.

    Args:
        status: A status of the sandbox, or DIFFERS.
        printed: The output.
        errors: The messages.
        choices: The choices.

    Returns:
        For each choice a name in TYPES; None for all choices but those of the strictest way that any choice matches.
    """
    ways = [_ways(status, printed, errors, plain(choice)) for choice in choices]
    for way in TYPES:
        if any(way in found for found in ways):
            return [way if way in found else None for found in ways]
    return [None] * len(choices)


def _ways(status: str, printed: str, errors: str, choice: str) -> set[str]:
    if status == "compile_error":
        return _error_ways(errors, choice, _COMPILE)
    if status == "runtime_error":
        return _error_ways(errors, choice, _RUN) | (_print_ways(printed, choice) if printed.strip() else set())
    if status in ("timeout", "output"):
        return {"endless"} if _ENDLESS.search(choice) else set()
    if status == DIFFERS:
        return {"not defined"} if _UNDEFINED.search(choice) else set()
    if status != "ok":
        return set()
    if not printed.strip():
        return {"nothing"} if _NOTHING.search(choice) or not choice.strip() else set()
    return _print_ways(printed, choice) | ({"not defined"} if _UNDEFINED.search(choice) else set())


def _print_ways(printed: str, choice: str) -> set[str]:
    ways = set()
    if _blanks(printed) == _blanks(choice):
        ways.add("same")
    if _words(printed) == _words(choice):
        ways.add("same words")
    numbers = _numbers(printed)
    if numbers and numbers == _numbers(choice) and not re.search("[A-Za-z]{3}", printed):
        ways.add("same numbers")
    times = _repetitions(printed)
    says = _spoken(choice)
    if times > 1 and f" {times} " in says:
        ways.add("so often")
    if len(_spoken(printed)) > 4 and _spoken(printed) in says:
        ways.add("says it")
    return ways


def _repetitions(printed: str) -> int:
    """Return how often an output repeats one text of which it consists."""
    text = "".join(printed.split())
    period = (text + text).find(text, 1)
    return len(text) // period if text else 1


def _spoken(text: str) -> str:
    """Return the words of a text, in small letters, with one blank around each."""
    return f" {' '.join(re.findall(r'[a-z0-9.+-]*[a-z0-9]', text.lower()))} "


def _error_ways(errors: str, choice: str, pattern: re.Pattern[str]) -> set[str]:
    if _NO_ERROR.search(choice):
        return set()
    names = set(re.findall(r"\b\w+(?:Error|Exception)\b", errors))
    ways = {"names the error"} if any(name.lower() in choice.lower() for name in names) else set()
    if pattern.search(choice):
        ways.add("names the error" if pattern.search(choice) and len(choice) < 60 and not names else "an error")
    return ways


def is_incomplete(errors: str) -> bool:
    """Tell whether a failure may come from what a question leaves out of its program."""
    return _INCOMPLETE.search(errors) is not None


def _blanks(text: str) -> str:
    return " ".join(text.split())


def _words(text: str) -> str:
    return re.sub(r"[\s\"'`,;\[\]{}()]+", "", text).lower().rstrip(".")


def _numbers(text: str) -> list[float]:
    return [round(float(number), 4) for number in _NUMBER.findall(text)]
