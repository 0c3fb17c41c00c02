"""The holdout: one file split into questions and examples, and what cannot be split."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import InMemory, QuestionSet, files
from codemmlu.dataset.examples import is_same_source, read_examples
from codemmlu.errors import UserError
from codemmlu.recipe import ExampleSettings, HoldoutSettings, QuestionSettings, Recipe
from codemmlu.schema import Question
from tests.support.questions import write_csv

ROWS = 60


@pytest.fixture
def source(tmp_path: Path) -> str:
    """60 rows, of which every sixth has no answer; two texts stand there twice."""
    return written(tmp_path / "solved.csv", range(ROWS))


def written(path: Path, numbers: range | list[int]) -> str:
    """Write rows of which every sixth has no answer."""
    rows = (
        {
            "task_id": f"q{n}",
            "question": f"What is {n % 58}?",
            "choices": [str(n), "other"],
            "answer": "A" if n % 6 else None,
        }
        for n in numbers
    )
    return str(write_csv(path, rows))


def split(source: str, n: int = 10, seed: int = 0, limit: int | None = None, most: int | None = None) -> QuestionSet:
    """Split a source into n questions and examples. most: rows that may become examples."""
    questions = {"source": source, "holdout": {"n": n, "seed": seed}, "limit": limit}
    voters = {"v": {"method": "retrieve"}}
    sections = {"out": "x", "questions": questions, "examples": {"source": source, "limit": most}, "voters": voters}
    return QuestionSet(Recipe.model_validate(sections), InMemory())


def held(source: str, **holdout: int) -> frozenset[str]:
    chosen = split(source, **holdout).holdout
    assert chosen is not None
    return chosen


def names(rows: Iterable[Question]) -> set[str]:
    return {row.task_id for row in rows}


def fault(error: "pytest.ExceptionInfo[UserError]") -> str:
    """The text of the error: always one line."""
    assert "\n" not in str(error.value)
    return str(error.value)


def test_one_file_is_split_into_questions_and_examples(source: str) -> None:
    both = split(source)
    asked, examples = list(both), both.examples
    assert names(asked) == set(both.holdout or ())
    assert (both.stream.questions, both.stream.labelled) == (10, 10)
    assert len(asked) == 10
    assert all(row.answer for row in [*asked, *examples]), "both need an answer"
    assert names(asked) & names(examples) == set()
    assert names(asked) | names(examples) == {f"q{n}" for n in range(ROWS) if n % 6}


def test_the_split_is_drawn_by_its_seed_and_stays(source: str, tmp_path: Path) -> None:
    assert held(source) == held(source)
    assert held(source) != held(source, seed=1)
    turned = written(tmp_path / "turned.csv", list(reversed(range(ROWS))))
    assert held(turned) == held(source), "by content, not by the place in the file"
    assert held(source, n=5) < held(source), "a larger holdout only adds"
    grown = written(tmp_path / "grown.csv", range(ROWS + 12))
    assert len(held(grown) & held(source)) >= 5, "a few rows more do not draw anew"


def test_the_split_is_spread_over_the_file(source: str) -> None:
    places = [int(name[1:]) for name in held(source, n=20)]
    assert min(places) < 20
    assert max(places) > 40


def test_a_limit_does_not_change_who_is_held_out(source: str) -> None:
    assert held(source, limit=15) == held(source)
    assert names(split(source, limit=3)) < held(source)


def test_a_source_is_read_once_however_it_is_used(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = files.SourceFile.open

    def noted(file: files.SourceFile) -> Any:
        opened.append(file.name)
        return read(file)

    monkeypatch.setattr(files.SourceFile, "open", noted)
    both = split(source)
    assert len(both.examples) + len(list(both)) == 50
    assert len(both.content_keys) > 0
    assert both.example_notes == []
    assert len(opened) == 1


@pytest.mark.parametrize("n", [50, 51, 1000])
def test_a_holdout_that_leaves_no_example_is_refused(source: str, n: int) -> None:
    with pytest.raises(UserError) as error:
        held(source, n=n)
    assert fault(error) == f"questions.holdout.n: {n:,} of 50 labelled questions leaves none as examples"
    assert len(held(source, n=49)) == 49


def test_only_one_source_can_be_split() -> None:
    holdout = HoldoutSettings(n=1)
    assert is_same_source(QuestionSettings(source="a.csv", holdout=holdout), ExampleSettings(source="a.csv"))
    assert not is_same_source(QuestionSettings(source="a.csv", holdout=holdout), ExampleSettings(source="b.csv"))
    assert not is_same_source(QuestionSettings(source="a.csv", holdout=holdout), ExampleSettings())
    assert not is_same_source(QuestionSettings(source="a.csv"), ExampleSettings(source="a.csv"))


def test_one_file_is_one_source_however_it_is_spelled(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(source).parent)
    holdout = HoldoutSettings(n=1)
    for spelled in ("solved.csv", "./solved.csv", f"{Path(source).parent}/../{Path(source).parent.name}/solved.csv"):
        assert is_same_source(QuestionSettings(source=source, holdout=holdout), ExampleSettings(source=spelled))


@pytest.mark.parametrize(
    "other", [{"answers": "text"}, {"encoding": "cp1252"}, {"subjects": ["api"]}, {"columns": {"answer": "right"}}]
)
def test_one_source_that_is_read_in_two_ways_is_refused(source: str, other: dict[str, object]) -> None:
    """Rows that have another name or answer there would not be recognised as those that are held out."""
    asked = QuestionSettings(source=source, holdout=HoldoutSettings(n=1))
    (name,) = other
    with pytest.raises(UserError) as error:
        is_same_source(asked, ExampleSettings.model_validate({"source": source, **other}))
    assert f"examples.{name} must be what questions.{name} is" in fault(error)


def test_examples_without_an_answer_are_no_examples(tmp_path: Path) -> None:
    source = written(tmp_path / "none.csv", [0, 6, 12])
    with pytest.raises(UserError) as error:
        read_examples(ExampleSettings(source=source))
    assert fault(error) == f"examples.source: {source} has no question with an answer to learn from"


def test_where_everything_is_held_out_there_is_no_example(source: str) -> None:
    """The limit of the examples counts rows of the file, whichever part they belong to."""
    with pytest.raises(UserError, match=r"examples\.source: .* has no question with an answer"):
        assert split(source, n=49, most=2).examples


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"source": "none.csv"}, "examples.source: no file at none.csv"),
        ({"subjects": ("poetry",)}, "examples.subjects: "),
    ],
)
def test_mistakes_in_the_examples_are_said_by_their_own_name(
    source: str, settings: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError) as error:
        read_examples(ExampleSettings.model_validate({"source": source, **settings}))
    assert fault(error).startswith(says)


def test_a_file_in_another_encoding_is_an_error_by_its_own_key(tmp_path: Path) -> None:
    """The remedy names the examples, but a file that is called after the questions keeps its name."""
    path = tmp_path / "questions.source.csv"
    path.write_bytes("task_id,question,A,B,answer\n1,caf\xe9,x,y,A\n".encode("cp1252"))
    with pytest.raises(UserError) as error:
        read_examples(ExampleSettings(source=str(path)))
    assert fault(error).startswith(f"{path}:2: byte b'\\xe9' is not utf-8")
    assert "set examples.encoding=" in fault(error)


def test_notes_name_the_section_of_the_source(source: str) -> None:
    """A source that is split is read once; the notes of either side name the keys of that side."""
    section = {"source": source, "columns": {"subject": "questions.columns.x"}}
    sections = {"out": "x", "questions": {**section, "holdout": {"n": 10}}, "examples": section}
    both = QuestionSet(Recipe.model_validate({**sections, "voters": {"v": {"method": "retrieve"}}}), InMemory())
    expected = "rows without the column 'questions.columns.x' of {}.columns.subject"
    assert expected.format("questions") in both.stream.notes()[0]
    assert expected.format("examples") in both.example_notes[0]


def test_examples_are_read_like_questions(source: str) -> None:
    first, notes = read_examples(ExampleSettings(source=source, limit=12))
    assert [row.task_id for row in first] == [f"q{n}" for n in range(12) if n % 6]
    assert isinstance(notes, list)
