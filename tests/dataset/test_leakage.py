"""The leak guard: many questions among the examples are said, and the benchmark with its answers is refused."""

from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import QuestionSet, leakage
from codemmlu.dataset.leakage import leak_note
from codemmlu.errors import UserError
from codemmlu.recipe import Recipe
from tests.support.questions import questions_csv

HUB = "Fsoft-AIC/CodeMMLU"


def recipe(folder: Path, asked: int, **examples: Any) -> Recipe:
    """Some of the first of forty solved questions are asked."""
    source = questions_csv(folder / "all.csv", 40, text="What is number {i} of " + "many " * 3)
    return Recipe.model_validate(
        {
            "out": "x",
            "questions": {"source": str(questions_csv(folder / "asked.csv", 40, text=_text(asked)))},
            "examples": {"source": str(source), **examples},
            "voters": {"r": {"method": "retrieve"}},
        }
    )


def _text(shared: int) -> str:
    return "What is number {i} of many many many " if shared else "Something else about {i}"


def test_many_questions_among_the_examples_are_said(tmp_path: Path) -> None:
    given = recipe(tmp_path, 40)
    note = leak_note(given, QuestionSet(given))
    assert note is not None
    assert note.startswith("WARNING: 40 of 40 questions (100%) stand among the examples word for word")
    other = recipe(tmp_path, 0)
    assert leak_note(other, QuestionSet(other)) is None


def test_a_few_questions_are_no_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "LOUD", 1.0)
    given = recipe(tmp_path, 40)
    assert leak_note(given, QuestionSet(given)) is None


def test_examples_with_the_answers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leakage, "is_answered_set", lambda _: True)
    given = recipe(tmp_path, 40)
    with pytest.raises(UserError, match=r"examples\.source: .* holds 40 of the 40 questions with their answers; "):
        leak_note(given, QuestionSet(given))
    allowed = recipe(tmp_path, 40, allow_same_set=True)
    assert leak_note(allowed, QuestionSet(allowed)) is not None, "allowed, and said all the same"


@pytest.mark.parametrize("source", [HUB, HUB.lower()])
def test_a_recipe_of_the_set_for_itself_is_refused(source: str) -> None:
    fields: dict[str, Any] = {
        "out": "x",
        "questions": {"source": source},
        "examples": {"source": HUB},
        "voters": {"r": {"method": "retrieve"}},
    }
    with pytest.raises(ValueError, match="has the answers to these questions; take other examples"):
        Recipe.model_validate(fields)
    fields["examples"]["allow_same_set"] = True
    assert Recipe.model_validate(fields)
    assert Recipe.model_validate({**fields, "questions": {"source": "mine.csv"}, "examples": {"source": HUB}})
