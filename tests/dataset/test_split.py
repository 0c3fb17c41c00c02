"""The split of examples: every one has a part, twins share theirs, and neither order nor names matter."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key, near_duplicate_groups
from codemmlu.dataset.splits import SHARES, Part, assign
from codemmlu.errors import UserError
from codemmlu.recipe import Recipe
from codemmlu.schema import Question
from tests.support.questions import COLUMNS, write_csv
from tests.support.rows import question

WORDS = [f"word{number}" for number in range(15)]


def said(number: int) -> Question:
    """A question of its own words."""
    chosen = random.Random(number).choices(WORDS, k=30)
    return question(f"t{number}", question=" ".join(chosen), choices=(f"this {number}", f"that {number}"))


MANY = [said(number) for number in range(400)]


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    """The part of each of MANY, for seed 0."""
    return assign(MANY, 0)


def written(path: Path, questions: Iterable[Question]) -> Path:
    """Write questions as a file in which all have an answer."""
    fields = ((q.task_id, q.question, list(q.choices), "A") for q in questions)
    return write_csv(path, (dict(zip(COLUMNS, row, strict=True)) for row in fields))


def test_parts_have_their_shares(parts: list[Part]) -> None:
    found = Counter(parts)
    assert sum(found.values()) == len(MANY)
    for part, share in SHARES:
        assert found[part] / len(MANY) == pytest.approx(share, abs=0.07)


def test_neither_order_nor_names_matter_and_the_seed_does(parts: list[Part]) -> None:
    mixed = random.Random(1).sample([replace(q, task_id=f"x{q.task_id}") for q in MANY], len(MANY))
    by_text = dict(zip([q.question for q in MANY], parts, strict=True))
    assert dict(zip([q.question for q in mixed], assign(mixed, 0), strict=True)) == by_text
    assert assign(MANY[:100], 1) != assign(MANY[:100], 0)


def test_near_duplicates_are_in_one_part() -> None:
    near = [replace(q, task_id=f"n{q.task_id}", question=f"{q.question} too") for q in MANY]
    groups = near_duplicate_groups([*MANY, *near])
    assert sum(groups[place] == groups[place + len(MANY)] for place in range(len(MANY))) > 0.9 * len(MANY)
    parts = assign([*MANY, *near], 0)
    for place, group in enumerate(groups):
        assert parts[place] == parts[group]


def test_what_has_nothing_in_common_is_in_no_group() -> None:
    assert near_duplicate_groups(MANY) == list(range(len(MANY)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The questions as a file."""
    return written(tmp_path / "all.csv", MANY)


def recipe(asked: Path, examples: Path, limit: int = 1000, **questions: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "out": "x",
            "questions": {"source": str(asked), **questions},
            "examples": {"source": str(examples)},
            "models": {"m": {"source": "embedded"}},
            "voters": {"v": {"model": "m"}},
            "vote": {"fit": {"limit": limit}},
        }
    )


def test_nothing_is_fitted_on_what_is_asked(source: Path, tmp_path: Path) -> None:
    """Not even under another name, in other letters."""
    loud = (replace(q, task_id=f"x{n}", question=q.question.upper()) for n, q in enumerate(MANY[:300]))
    asked = written(tmp_path / "asked.csv", loud)
    fit = QuestionSet(recipe(asked, source)).fit_examples
    assert 5 <= len(fit) <= 30
    assert not {content_key(q) for q in fit} & {content_key(q) for q in MANY[:300]}
    assert len(QuestionSet(recipe(asked, source, limit=3)).fit_examples) == 3
    with pytest.raises(UserError, match=r"vote\.fit: no example is left"):
        assert QuestionSet(recipe(source, source)).fit_examples


def test_what_is_held_out_is_not_fitted_on(source: Path) -> None:
    """Of one source that is split in two, what is asked is what is held out."""
    questions = QuestionSet(recipe(source, source, holdout={"n": len(MANY) // 2}))
    held, fit = questions.holdout, questions.fit_examples
    assert held is not None
    assert len(fit) > 10
    assert not held & {q.task_id.removeprefix("fit/") for q in fit}
