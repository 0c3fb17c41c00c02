"""Generated questions: each right answer is proved by running it again, and letters, kinds and shapes are balanced."""

from collections import Counter
from dataclasses import replace

import pytest

from codemmlu.dataset.synthetic import generate, verify
from codemmlu.dataset.synthetic.execution import Ran, run
from codemmlu.dataset.synthetic.mutate import mutations
from codemmlu.schema import Question


@pytest.fixture(scope="module", params=[12, pytest.param(48, marks=pytest.mark.soak)])
def made(request: pytest.FixtureRequest) -> list[Question]:
    """As many questions as it takes for each kind to have each letter once, and four times as many."""
    return generate(request.param, seed=7)


def test_every_answer_is_right_by_running_it_again(made: list[Question]) -> None:
    assert [verify(question) for question in made] == [question.answer for question in made]


def test_a_wrong_letter_would_be_noticed(made: list[Question]) -> None:
    for question in made[:3]:  # one of each kind
        first, *rest = question.choices
        moved = replace(question, choices=(*rest, first))
        assert verify(moved) != question.answer


def test_a_question_without_one_right_choice_proves_nothing(made: list[Question]) -> None:
    question = made[0]
    right = question.choices["ABCD".index(question.answer or "")]
    assert verify(replace(question, choices=(right, right))) is None
    assert verify(replace(question, choices=("this is", "no output"))) is None


def test_kinds_and_letters_are_balanced_and_nothing_comes_twice(made: list[Question]) -> None:
    count = len(made)
    assert Counter(question.subject for question in made) == {
        "synthesised/output": count // 3,
        "synthesised/fix": count // 3,
        "synthesised/completion": count // 3,
    }
    assert Counter(question.answer for question in made) == dict.fromkeys("ABCD", count // 4)
    assert len({question.question for question in made}) == len({question.task_id for question in made}) == count
    assert all(len(set(question.choices)) == 4 for question in made)


def test_the_same_seed_makes_the_same_questions(made: list[Question]) -> None:
    assert generate(5, seed=7) == made[:5]
    assert generate(1, seed=8) != made[:1]


def test_programs_are_bounded() -> None:
    first, endless, huge, failing, last = run(
        ["print(1)", "while True: pass", "print('x' * 10**10)", "raise ValueError(1)", "print(2)"]
    )
    assert [endless.error, huge.error, failing.error] == ["TimeoutError", "MemoryError", "ValueError"]
    assert (first, last) == (Ran("1\n", None), Ran("2\n", None))


def test_a_program_that_kills_its_process_takes_no_other_with_it() -> None:
    deep = "import sys\nsys.setrecursionlimit(10**8)\nx = []\nfor _ in range(10**6):\n    x = [x]\nrepr(x)"
    told = run(["print(1)", deep, "print(2)"])
    assert [one.printed for one in told] == ["1\n", "", "2\n"]
    assert told[1].error


def test_a_mutation_changes_one_thing() -> None:
    assert mutations("print(a + 1)") == ["print(a - 1)", "print(a * 1)", "print(a + 2)", "print(a + 0)"]
    assert mutations("print('text')") == []
