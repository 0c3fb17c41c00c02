"""The exact words of both templates: stored answers and finetuned models depend on every character."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.mcq import TEMPLATES, Message, render, template_digest
from tests.support.rows import question

CODEMMLU = """\
Here is a multiple-choice question about code.

What does `print(f"{{{x}}}")` show?
    x = {0}

Choices:
A. {0}
B. {{0}}
C. %s
D. an error

Exactly one choice is right. Reply with its letter alone."""

REFERENCE = """\
You are a programming expert and will answer multiple-choice questions about code.
Read the following question and options carefully and select the **best** answer.

### Response Format:
- Reply with **only** the letter of the correct option.
- Do not include any explanations.

###
What does `print(f"{{{x}}}")` show?
    x = {0}

### Options:
A. {0}

B. {{0}}

C. %s

D. an error

### Response:"""

BRACES = question(
    question='What does `print(f"{{{x}}}")` show?\n    x = {0}', choices=("{0}", "{{0}}", "%s", "an error")
)


def text_of(template: str, order: tuple[int, ...] | None = None) -> str:
    (message,) = render(BRACES, template, order).messages
    assert message == Message("user", message.content)
    return message.content


def test_the_words_of_codemmlu() -> None:
    assert text_of("codemmlu") == CODEMMLU
    prompt = render(BRACES, "codemmlu")
    assert (prompt.prefill, prompt.before_letter) == ("Answer:", " ")


def test_the_words_of_reference() -> None:
    assert text_of("reference") == REFERENCE
    prompt = render(BRACES, "reference")
    assert (prompt.prefill, prompt.before_letter) == ("", "")


def test_stored_answers_know_these_words() -> None:
    """A change here makes every stored answer stale: right when the words change, wrong otherwise."""
    digests = {name: template_digest(name) for name in TEMPLATES}
    assert digests == {"codemmlu": "c9fb11e7055f8bdc", "reference": "ce893001ace1dc31"}


@pytest.mark.parametrize("template", sorted(TEMPLATES))
def test_choices_are_shown_in_the_order_asked_for(template: str) -> None:
    prompt = render(BRACES, template, (2, 0, 3, 1))
    assert prompt.order == (2, 0, 3, 1)
    assert prompt.letters == "ABCD"
    lines = [line for line in prompt.messages[0].content.splitlines() if line[1:3] == ". "]
    assert lines == ["A. %s", "B. {0}", "C. an error", "D. {{0}}"]


def test_without_an_order_the_choices_stand_as_in_the_file() -> None:
    assert render(BRACES, "codemmlu") == render(BRACES, "codemmlu", (0, 1, 2, 3))


@pytest.mark.parametrize("order", [(0, 0), (0, 1, 2, 2), (1, 2, 3, 4), (0, 1, 2, 3, 4), ()])
def test_what_is_no_order_of_the_choices_is_refused(order: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="no order of 4 choices"):
        render(BRACES, "codemmlu", order)


def test_as_many_letters_as_choices() -> None:
    many = question(choices=tuple(f"choice {i}" for i in range(26)))
    prompt = render(many, "codemmlu")
    assert "\nZ. choice 25\n" in prompt.messages[0].content
    assert len(prompt.letters) == 26


@given(st.permutations(range(4)))
def test_reordered_readings_share_everything_before_choices(order: list[int]) -> None:
    before = CODEMMLU[: CODEMMLU.index("A. {0}")]
    assert BRACES.question in before
    assert text_of("codemmlu", tuple(order)).startswith(before)


@given(st.text(), st.lists(st.text(), min_size=2, max_size=26))
def test_any_text_is_shown_as_it_stands(asked: str, choices: list[str]) -> None:
    for template in TEMPLATES:
        shown = render(question(question=asked, choices=tuple(choices)), template).messages[0].content
        assert f"\n{asked}\n" in shown
        assert all(f". {choice}\n" in shown for choice in choices)


SOLVED = [question("e1", question="One?", answer="C"), question("e2", question="Two?", choices=("x", "y"), answer="A")]


@pytest.mark.parametrize(("template", "said"), [("codemmlu", "Answer: {}"), ("reference", "{}")])
def test_solved_examples_are_turns_with_their_right_letters(template: str, said: str) -> None:
    prompt = render(BRACES, template, (2, 0, 3, 1), SOLVED)
    alone = render(BRACES, template, (2, 0, 3, 1))
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [prompt.messages[i].content for i in (1, 3)] == [said.format("C"), said.format("A")]
    for turn, example in zip(prompt.messages[::2], SOLVED, strict=False):
        assert turn == render(example, template).messages[0], "an example is worded as a question is"
    assert prompt.messages[-1:] == alone.messages
    assert (prompt.prefill, prompt.before_letter, prompt.order) == (alone.prefill, alone.before_letter, alone.order)


def test_examples_stand_in_the_order_they_are_given() -> None:
    turned = render(BRACES, "codemmlu", examples=SOLVED[::-1])
    assert ["Two?" in turned.messages[0].content, "One?" in turned.messages[2].content] == [True, True]


def test_the_assistant_ends_where_the_model_is_to_go_on() -> None:
    """What the model is shown its earlier turns to be is what it is read for now: prefill, gap, letter."""
    prompt = render(BRACES, "codemmlu", examples=SOLVED)
    assert prompt.messages[1] == Message("assistant", f"{prompt.prefill}{prompt.before_letter}C")


def test_an_example_without_an_answer_is_none() -> None:
    with pytest.raises(ValueError, match="e9 has no answer: it cannot be an example"):
        render(BRACES, "codemmlu", examples=[*SOLVED, question("e9", answer=None)])


def test_letters_before_the_choices_are_left_out_in_any_order() -> None:
    lettered = question(choices=("(A) one", "(B) two"))
    (message,) = render(lettered, "codemmlu", (1, 0)).messages
    assert "Choices:\nA. two\nB. one\n" in message.content
    (message,) = render(question(choices=("(A)", "(B)")), "codemmlu", (1, 0)).messages
    assert "Choices:\nA. (B)\nB. (A)\n" in message.content
