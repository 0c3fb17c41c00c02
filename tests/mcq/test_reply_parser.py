"""Replies: what a free text says, and that nothing is guessed."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.mcq.reply_parser import read_reply

CHOICES = ("a list", "a tuple", "the dict `x`", "None of these")

SAYS = [
    ("B", "B", "exact"),
    ("b", "B", "exact"),
    (" B \n", "B", "exact"),
    ("(C)", "C", "exact"),
    ("**B**", "B", "exact"),
    ("`D`", "D", "exact"),
    ("'B'", "B", "exact"),
    ("[A]", "A", "exact"),
    ("B.", "B", "exact"),
    ("B)", "B", "exact"),
    ("B. a tuple", "B", "exact"),
    ("B) a tuple", "B", "exact"),
    ("B: a tuple", "B", "exact"),
    ("A: a list", "A", "exact"),
    ("**C. the dict `x`**", "C", "exact"),
    ("B because A is wrong", "B", "exact"),
    ("D since none of the others fits", "D", "exact"),
    ("A is correct.", "A", "exact"),
    ("C - the dict", "C", "exact"),
    ("C\n\nExplanation: A is wrong because it is no dict.", "C", "exact"),
    ("<think>B is right</think>\n\nC", "C", "exact"),
    ("A: Let me think. The answer is D.", "D", "marker"),
    ("A. no wait, the answer is C", "C", "marker"),
    ("A is not correct, so the answer is B", "B", "marker"),
    ("It's not obvious. The answer is C", "C", "marker"),
    ("\\boxed{B}", "B", "boxed"),
    ("The result is $\\boxed{C}$.", "C", "boxed"),
    ("so \\boxed{\\text{C}}", "C", "boxed"),
    ("\\boxed{A} no, wait: \\boxed{D}", "D", "boxed"),
    ("\\boxed{(B)}", "B", "boxed"),
    ("ANSWER: **B**", "B", "marker"),
    ("Option A is incorrect. Therefore C", "C", "marker"),
    ("Hence, (D).", "D", "marker"),
    ("B. It is sorted. A. is unsorted.", "B", "exact"),
    ("Hence the loop stops, and so A", None, "none"),
    ("The answer is B is false", None, "none"),
    ("The response is B-tree", None, "none"),
    ("The answer is A? No.", None, "none"),
    ("Answer: b", "B", "marker"),
    ("Answer:\nC", "C", "marker"),
    ("Answer=D", "D", "marker"),
    ("**Answer:** D", "D", "marker"),
    ("The answer is B", "B", "marker"),
    ("The answer is: B.", "B", "marker"),
    ("the answer is (c)", "C", "marker"),
    ("The correct answer is (C).", "C", "marker"),
    ("The correct answer is:\n\n**A. a list**", "A", "marker"),
    ("The correct option is C: the dict", "C", "marker"),
    ("The answer is option D", "D", "marker"),
    ("The best choice would be B.", "B", "marker"),
    ("Therefore, the final answer is A.", "A", "marker"),
    ("D is the correct answer", "D", "exact"),
    ("Option C is correct.", "C", "marker"),
    ("I would choose B.", "B", "marker"),
    ("I'd go with D", "D", "marker"),
    ("The answer is not A but D", "D", "marker"),
    ("It is not A, it's B.", "B", "marker"),
    ("The answer is A. Wait, actually the answer is D.", "D", "marker"),
    ("The answer is C, not A.", "C", "marker"),
    ("Answer: B\n\nQuestion: what else?\nAnswer: C", "B", "marker"),
    ("### Response:\nB", "B", "marker"),
    ("Answer: A list", "A", "option"),
    ("It is a tuple.", "B", "option"),
    ("I think the answer is a list.", "A", "option"),
    ("A list is what it returns.", "A", "option"),
    ("You get THE DICT `X` back", "C", "option"),
    ("The answer: A. Actually, wait, it's D.", "D", "marker"),
    ("A: wrong\nB: right\nAnswer: B", "B", "marker"),
]
SAYS_NOTHING = [
    "",
    " \n ",
    "I don't know",
    "I am not sure.",
    "E",
    "Answer: E",
    "\\boxed{F}",
    "A or B",
    "A, B",
    "Both A and B",
    "The answer is A or B",
    "not A",
    "not a list",
    "A. a list\nB. a tuple\nC. a dict\nD. a set",
    "I don't think B is correct",
    "It is not true that B is correct",
    "The incorrect answer is B",
    "Wrong answer: B",
    "Answer: not A",
    "The answer is not B.",
    "The answer is I",
    "A function that returns something",
    "The answer is a function",
    "Is it a list or a tuple?",
    "<think>The answer is A",
    "<think>B",
    "42",
    "Let's look at each option:\n\nA. a list: it has an order",
    "A) The correct answer is A.\nB) The correct answer is B.",
    "A. a set\nB. a tuple",
    "A. is wrong because it loops",
    "A. B. C. D.",
    "If the answer is B then A fails",
]


@pytest.mark.parametrize(("text", "letter", "found"), SAYS)
def test_a_reply_is_read(text: str, letter: str, found: str) -> None:
    reply = read_reply(text, CHOICES)
    assert (reply.letter, reply.found) == (letter, found)


@pytest.mark.parametrize("text", SAYS_NOTHING)
def test_no_answer_is_no_answer(text: str) -> None:
    reply = read_reply(text, CHOICES)
    assert (reply.letter, reply.found) == (None, "none")


REAL = [json.loads(line) for line in Path(__file__).with_name("real_replies.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("real", REAL, ids=[f"{number}-{one['found']}" for number, one in enumerate(REAL)])
def test_what_models_really_said_is_read_as_a_person_reads_it(real: dict[str, Any]) -> None:
    """Replies of both models that are used here; many go through the choices and are cut off before they answer."""
    reply = read_reply(real["text"], real["choices"])
    assert (reply.letter, reply.found) == (real["letter"], real["found"])


def test_real_replies_are_of_both_models() -> None:
    models = Counter(real["model"] for real in REAL)
    assert len(models) == 2
    assert min(models.values()) >= 10


def test_of_choices_inside_one_another_the_longest_counts() -> None:
    choices = ("list", "list of int", "dict", "set")
    assert read_reply("You get a list of int here", choices).letter == "B"
    assert read_reply("A dict or a set", choices).letter is None


def test_none_of_the_above_is_not_the_choice_none() -> None:
    assert read_reply("None of the above", ("1", "2", "None")).letter is None
    assert read_reply("It returns None.", ("1", "2", "None")).letter == "C"
    assert read_reply("None of the above", ("a list", "a set", "None of the above")).letter == "C"


@given(st.text(max_size=200), st.integers(2, 26))
def test_any_text_is_read_without_harm(text: str, size: int) -> None:
    reply = read_reply(text, [f"choice {i}" for i in range(size)])
    assert (reply.letter is None) == (reply.found == "none")
    assert reply.letter is None or ord(reply.letter) - ord("A") < size


def test_a_long_reply_is_read_in_time() -> None:
    assert read_reply("the answer " * 20_000, CHOICES).letter is None
    assert read_reply("(" * 50_000 + "B", CHOICES).letter == "B"
