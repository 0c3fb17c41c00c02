"""Keys: an answer is found again exactly when everything that determines it is the same."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.answering.asks import ask_of
from codemmlu.prompts import TEMPLATES
from codemmlu.prompts.templates import Template
from codemmlu.recipe import DirectVoter
from tests.samples import ASK, QUESTION

ONE = DirectVoter(model="m")


def test_the_same_is_asked_under_the_same_key() -> None:
    assert ask_of(ONE, "w", None).key(QUESTION) == ASK.key(replace(QUESTION)) == "4b329049e90ab4d564dbae925efdfd73"
    assert ask_of(ONE, "w", None).name == ASK.name == "direct-6f2bd20b5fd5"


@pytest.mark.parametrize(
    "other",
    [
        {"task_id": "t2"},
        {"question": QUESTION.question + " "},
        {"choices": ("one", "two", "three", "Four")},
        {"choices": ("two", "one", "three", "four")},
        {"choices": ("one", "two", "three")},
        {"choices": ("one", "two", "three", "four", "five")},
    ],
)
def test_another_question_has_another_key(other: dict[str, Any]) -> None:
    assert ASK.key(replace(QUESTION, **other)) != ASK.key(QUESTION)


@pytest.mark.parametrize(
    "other",
    [{"subject": None}, {"answer": None}, {"answer": "C"}, {"file": "b.csv"}, {"line": 9}, {"position": 9}],
)
def test_what_the_model_never_sees_is_no_part_of_the_key(other: dict[str, Any]) -> None:
    assert ASK.key(replace(QUESTION, **other)) == ASK.key(QUESTION)


@pytest.mark.parametrize("other", [{"weights": "w2"}, {"template": "reference"}, {"method": "cyclic"}])
def test_another_ask_has_another_key_and_name(other: dict[str, Any]) -> None:
    asked = replace(ASK, **other)
    assert asked.key(QUESTION) != ASK.key(QUESTION)
    assert asked.name != ASK.name


def test_what_a_model_is_called_is_no_part_of_the_key() -> None:
    assert replace(ASK, pool="other").key(QUESTION) == ASK.key(QUESTION)


@pytest.mark.parametrize(
    "words",
    [
        Template(lambda question, choices: f"{question}? {choices}", "Answer:", " "),
        Template(TEMPLATES["codemmlu"].wording, "Reply:", " "),
        Template(TEMPLATES["codemmlu"].wording, "Answer:", ""),
    ],
)
def test_a_template_with_other_words_has_another_key(words: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ASK.key(QUESTION)
    monkeypatch.setitem(TEMPLATES, "codemmlu", words)
    assert ASK.key(QUESTION) != before


short = st.text(max_size=3)


@given(*[st.tuples(short, short, st.lists(short, min_size=2, max_size=3).map(tuple))] * 2)
def test_no_two_questions_run_together(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    keys = [ASK.key(replace(QUESTION, task_id=t, question=q, choices=c)) for t, q, c in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
