"""Choices that mean something in their own order alone, and letters that choices begin with."""

import pytest

from codemmlu.dataset.references import references_position, without_letters


@pytest.mark.parametrize(
    "choice",
    [
        *("All of the above", "None of the above.", "Both A and B", "A and C only", "Neither A nor B", "Both of above"),
        *("(a), (b) and (c)", "Only (a), (c), and (d)", "A, B, C and D are true.", "all of the above options"),
        *("Option B is right and option C is not", "Both (a) and (b) are TRUE."),
    ],
)
def test_a_choice_that_refers_to_others_is_found(choice: str) -> None:
    assert references_position("Which?", ["x", choice])


@pytest.mark.parametrize(
    "choice",
    ["A", "I and II only", "None", "a and b", "C and C++", "above zero", "x and y", "class A or B", "A or"],
)
def test_a_choice_that_refers_to_none_is_left_alone(choice: str) -> None:
    assert not references_position("Which?", ["x", choice])


def test_bare_letters_refer_to_a_list_in_the_question() -> None:
    listed = "Which?\nA. 3\nB. 4\nC) 5"
    assert references_position(listed, ["A", "B", "C"])
    assert not references_position("Which letter is printed?", ["A", "B", "C"])
    assert not references_position(listed, ["A", "B", "D"])


@pytest.mark.parametrize(
    ("choices", "shown"),
    [
        (["(A)NaCl", "(B)HCl"], ("NaCl", "HCl")),
        (["a) x", "b) y"], ("x", "y")),
        (["A. x", "B. y", "C. z"], ("x", "y", "z")),
        (["(A)", "(B)"], ("(A)", "(B)")),
        (["B. x", "A. y"], ("B. x", "A. y")),
        (["A. x", "y"], ("A. x", "y")),
        (["a = 1", "b = 2"], ("a = 1", "b = 2")),
    ],
)
def test_letters_before_all_choices_are_left_out(choices: list[str], shown: tuple[str, ...]) -> None:
    assert without_letters(choices) == shown
