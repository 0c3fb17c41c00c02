"""What a model or a file writes is read in time that grows with its length, whatever it is."""

import re
import time
from collections.abc import Callable

import pytest

from codemmlu.dataset.answers import parse_answer_letter
from codemmlu.mcq.reply_parser import read_reply

CHOICES = ["one thing", "another", "none of these", "a" * 50]
BLANKS = (
    *(" ", "\n", "\t", "*", "_", "(", ")", "[", "{", "<", ":", ".", "=", "->", "#", "* ", " \n", ") ", "**", "-", "?"),
    "\u2192",
)
OPENINGS = (
    *("", "The answer is", "The answer", "A", "\\boxed{", "\\boxed", "B is", "I choose", "not A", "therefore", "wait"),
    "\nquestion",
)
WORDS = (
    *("the answer is ", "is ", "the ", "answer: ", "A) ", "not B but ", "correct ", "to be ", "each of the "),
    *("</think>", "another ", "n't ", "\nquestion ", "I choose ", "or A ", "is A, "),
)
TEXTS = [
    *((opening, unit, end) for opening in OPENINGS for unit in BLANKS for end in ("", "x")),
    *(("", word, end) for word in WORDS for end in ("", "B", "?", "\n")),
    *((opening, word, "") for opening in OPENINGS for word in WORDS[:6]),
]


def growth(read: Callable[[str], object], text: Callable[[int], str]) -> float:
    """Return the exponent by which time grows from 2,000 to 32,000 characters, in CPU time."""

    def seconds(size: int) -> float:
        best = 1e9
        for _ in range(5):
            began = time.process_time()
            read(text(size))
            best = min(best, time.process_time() - began)
        return best + 2e-3  # What takes less than that is not measured well.

    return float((seconds(32_000) / seconds(2_000)) ** 0.25)  # Four doublings: the mean factor of one.


@pytest.mark.parametrize("part", range(12))
def test_a_reply_is_read_in_linear_time(part: int) -> None:
    for opening, unit, end in TEXTS[part::12]:
        factor = growth(lambda text: read_reply(text, CHOICES), lambda n: opening + unit * (n // len(unit)) + end)  # noqa: B023
        assert factor < 2**1.3, (opening, unit, end, factor)


@pytest.mark.parametrize("unit", [*BLANKS, "answer ", "the ", "is "])
def test_so_is_an_answer_column(unit: str) -> None:
    for opening in ("", "B", "answer", "the correct answer is "):
        for end in ("", "B", "x"):
            factor = growth(parse_answer_letter, lambda n: opening + unit * (n // len(unit)) + end)  # noqa: B023
            assert factor < 2**1.3, (opening, unit, end, factor)


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is" + " " * 2_000 + "B", "B"),
        ("Answer:" + "\n" * 500 + "**C**", "C"),
        ("\\boxed{" + " " * 3_000 + "D" + " " * 3_000 + "}", "D"),
        ("x " * 80_000 + "The answer is B", "B"),
        (" " * 10_000 + "B" + " " * 10_000, "B"),
    ],
)
def test_what_is_shortened_says_the_same(reply: str, letter: str) -> None:
    assert read_reply(reply, CHOICES).letter == letter


def test_blanks_around_an_answer_are_no_part_of_it() -> None:
    assert parse_answer_letter(" " * 100_000 + "(b)." + "\n" * 100_000) == "B"
    assert re.fullmatch("[A-D]", parse_answer_letter("Answer: **D**") or "")
