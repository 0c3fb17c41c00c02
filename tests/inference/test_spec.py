"""Keys: an answer is found again exactly when everything that determines it is the same."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.mcq import TEMPLATES
from codemmlu.mcq.templates import Template
from codemmlu.recipe import DirectVoter, RetrieveVoter, digest
from codemmlu.retrieval.index import RetrievalKey
from tests.support.rows import ASK, QUESTION, spec_of

ONE = DirectVoter(model="m")
SHOWN = DirectVoter(model="m", examples=3)
ALONE = RetrieveVoter(method="retrieve")
VIEW = RetrievalKey("index", "index, fitted", tokens=2000, spare=True)


def test_the_same_is_asked_under_the_same_key() -> None:
    assert spec_of(ONE, "w", None).key(QUESTION) == ASK.key(replace(QUESTION)) == "b96235e86481eb395dc87c5a18940bee"
    assert spec_of(ONE, "w", None).name == ASK.name == "direct-aec7d8f6e2f0"


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
    assert replace(ASK).key(QUESTION) != before  # an ask makes its own part of its keys once


@pytest.mark.parametrize(
    ("voter", "retrieval_key"),
    [
        (SHOWN.model_copy(update={"examples": 2}), VIEW),
        (SHOWN.model_copy(update={"examples": 0}), VIEW),
        (SHOWN.model_copy(update={"template": "reference"}), VIEW),
        (SHOWN, replace(VIEW, tokens=1999)),
        (SHOWN, replace(VIEW, fingerprint="another index or rule")),
        (SHOWN, replace(VIEW, spare=False)),
    ],
)
def test_an_ask_that_looks_at_other_examples_has_another_key(voter: DirectVoter, retrieval_key: RetrievalKey) -> None:
    assert spec_of(voter, "w", retrieval_key).key(QUESTION) != spec_of(SHOWN, "w", VIEW).key(QUESTION)
    assert spec_of(voter, "w", retrieval_key).name != spec_of(SHOWN, "w", VIEW).name


@pytest.mark.parametrize(
    "retrieval_key", [None, VIEW, replace(VIEW, fingerprint="another index"), RetrievalKey("x", "x", 1, False)]
)
def test_an_ask_without_examples_knows_nothing_of_the_index(retrieval_key: RetrievalKey | None) -> None:
    assert spec_of(ONE, "w", retrieval_key) == ASK


def test_more_are_looked_up_where_a_long_one_may_be_left_out() -> None:
    assert (spec_of(SHOWN, "w", VIEW).examples, spec_of(SHOWN, "w", VIEW).neighbours) == (3, 6)
    exact = spec_of(SHOWN, "w", replace(VIEW, spare=False))
    assert (exact.examples, exact.neighbours) == (3, 3)


def test_retrieval_alone_knows_its_index_and_no_model() -> None:
    asked = spec_of(ALONE, "", VIEW)
    assert (asked.pool, asked.weights, asked.examples, asked.neighbours) == ("retrieve", "", 0, 64)
    others = [
        spec_of(ALONE.model_copy(update={"neighbours": 63}), "", VIEW),
        spec_of(ALONE, "", replace(VIEW, fitted="another index, or fitted without others")),
    ]
    assert asked.key(QUESTION) not in {other.key(QUESTION) for other in others}
    # what its prompts would hold, and when it abstains, are no part of what it is asked
    same = [
        spec_of(ALONE, "another model", replace(VIEW, tokens=1)),
        spec_of(ALONE.model_copy(update={"abstain_below": 0.9}), "", VIEW),
    ]
    assert {other.key(QUESTION) for other in same} == {asked.key(QUESTION)}


# Of two letters only: by chance other parts come to the same text when they are run together.
short = st.text("ab", max_size=3)


@given(*[st.tuples(short, short, st.lists(short, min_size=2, max_size=3).map(tuple))] * 2)
def test_no_two_questions_run_together(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    keys = [ASK.key(replace(QUESTION, task_id=t, question=q, choices=c)) for t, q, c in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


CYCLIC = DirectVoter(model="m", readings="cyclic")


@pytest.mark.parametrize(
    ("choices", "voter", "is_new"),
    [
        (("(A) one", "(B) two"), ONE, True),
        (("(A)", "(B)"), ONE, False),
        (("one", "All of the above"), ONE, False),
        (("one", "All of the above"), CYCLIC, True),
        (("one", "two"), CYCLIC, False),
        (("(A) one", "(B) two"), ALONE, False),
    ],
)
def test_only_a_question_whose_prompts_changed_has_a_new_key(
    choices: tuple[str, ...], voter: DirectVoter | RetrieveVoter, is_new: bool
) -> None:
    """Letters before the choices are left out, and choices that refer to others stay in their order."""
    one, spec = replace(QUESTION, choices=choices), spec_of(voter, "w", VIEW)
    before = digest(spec._digest, one.task_id, one.question, one.choices)
    assert (spec.key(one) != before) == is_new
