"""The curriculum: what is learnt from, by parts, and that nothing of what is asked is in it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.kind import KINDS, kind_of
from codemmlu.engine.model_source import Model
from codemmlu.errors import UserError
from codemmlu.mcq import choice_probabilities
from codemmlu.recipe import Recipe
from codemmlu.recipe.finetune import Kind
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, question_from, to_table
from codemmlu.training.contradictions import Contradiction
from codemmlu.training.training_set import Helpers, build_training_set, fingerprint
from tests.support.questions import questions_csv, write_csv
from tests.support.rows import ASK, answer, reading

MODEL = Model("somewhere", None, "weights", None, {})


ROWS = [
    {
        "task_id": f"q{n}{copy}",
        "question": f"What is {n * 7919} of {n}, in number {n * n}?",
        "choices": ["a", "b", "c"],
        "answer": "ABC"[n % 3],
    }
    for n, copy in [*((n, "") for n in range(200)), *((n, "-copy") for n in range(10))]
]


@pytest.fixture
def solved(tmp_path: Path) -> Path:
    """200 solved questions, the first ten of which stand there twice."""
    return write_csv(tmp_path / "solved.csv", ROWS)


def recipe(solved: Path, **finetune: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "out": "runs/x",
            "questions": {"source": str(solved), "holdout": {"n": 40}},
            "examples": {"source": str(solved)},
            "models": {"m": {"source": "embedded"}},
            "voters": {"v": {"model": "m"}},
            "finetune": {"model": "m", **finetune},
        }
    )


def found(given: Recipe, **inputs: Any) -> Any:
    assert given.finetune is not None
    return build_training_set(given.finetune, given.seed, QuestionSet(given), Helpers(**inputs))


def test_what_is_asked_is_not_learnt_from_under_any_name(solved: Path) -> None:
    given = recipe(solved)
    training_set = found(given)
    learnt = [question_from(row) for row in training_set.table.to_pylist()]
    assert not QuestionSet(given).content_keys & {content_key(question) for question in learnt}
    assert training_set.asked > 0, "a twin of a question that is asked stood among the examples"
    assert set(training_set.table["part"].to_pylist()) == {"train", "tune"}, "the fit part is left for what is fitted"


def test_a_limit_takes_some_and_more_keeps_them(solved: Path) -> None:
    some, more = found(recipe(solved, limit=20)), found(recipe(solved, limit=30))

    def learnt(training_set: Any) -> set[str]:
        return {row["task_id"] for row in training_set.table.to_pylist() if row["part"] == "train"}

    assert (some.train, more.train) == (20, 30)
    assert learnt(some) < learnt(more)


def test_only_what_changes_the_weights_changes_the_fingerprint(solved: Path) -> None:
    given = recipe(solved)
    assert given.finetune is not None
    training_set = found(given)
    name = fingerprint(given.finetune, MODEL, training_set, "")
    assert name == fingerprint(given.finetune, MODEL, found(given), "")

    def changed(**fields: Any) -> str:
        assert given.finetune is not None
        return fingerprint(given.finetune.model_copy(update=fields), MODEL, training_set, "")

    assert changed(rank=8) != name
    assert changed(merge=True, checkpoint_steps=3, backend="peft") == name
    assert fingerprint(given.finetune, MODEL, found(recipe(solved, limit=20)), "") != name
    assert fingerprint(given.finetune, MODEL, training_set, "weights to go on from") != name


def test_neighbours_are_learnt_ones_nearest_first(solved: Path) -> None:
    everything = found(recipe(solved)).table.to_pylist()
    tuned = next(row["task_id"] for row in everything if row["part"] == "tune")
    two = [row["task_id"] for row in everything if row["part"] == "train"][:2]
    training_set = found(recipe(solved, examples=2), look_up=lambda asked, most: [[tuned, *two, "fit"] for _ in asked])
    rows = training_set.table.to_pylist()
    assert [rows[place]["task_id"] for place in rows[-1]["neighbours"]] == two


def test_shown_examples_may_lie_beyond_the_training_limit(solved: Path) -> None:
    few = {row["task_id"] for row in found(recipe(solved, limit=5)).table.to_pylist() if row["part"] == "train"}
    every = [row["task_id"] for row in found(recipe(solved)).table.to_pylist() if row["part"] == "train"]
    beyond = next(name for name in every if name not in few)
    training_set = found(recipe(solved, limit=5, examples=1), look_up=lambda asked, most: [[beyond] for _ in asked])
    rows = training_set.table.to_pylist()
    assert rows[rows[0]["neighbours"][0]]["task_id"] == beyond
    assert training_set.train == 5
    assert [row["task_id"] for row in rows if row["part"] == "shown"] == [beyond]


def test_generated_questions_are_learnt_and_never_tuned_by(solved: Path) -> None:
    training_set = found(recipe(solved, synthesise=6))
    made = [
        row for row in training_set.table.to_pylist() if row["subject"] and row["subject"].startswith("synthesised/")
    ]
    assert len(made) == training_set.made == 6
    assert {row["part"] for row in made} == {"train"}


def test_where_nothing_is_left_to_tune_by_it_is_said(tmp_path: Path) -> None:
    few = questions_csv(tmp_path / "few.csv", 42, text="{i}?", choices=("1", "2"))
    with pytest.raises(UserError, match="there is no example in the tune part to learn from; give more examples"):
        found(recipe(few))


@pytest.fixture
def answered(solved: Path, tmp_path: Path) -> Path:
    """A run that asked every solved question of the model as it came, which likes C best of what is wrong, and A next;
    of the model with some weights, which likes B or C; and long ago of another model."""
    run = RunDir(str(tmp_path / "answered"))
    questions = [
        Question(str(r["task_id"]), None, str(r["question"]), ("a", "b", "c"), str(r["answer"]), "x", n)
        for n, r in enumerate(ROWS)
    ]
    run.write_table("questions/0.parquet", to_table(questions, Question))
    tuned, old = replace(ASK, weights="tuned"), replace(ASK, weights="old")
    likes = {ASK: (-2.0, -3.0, -1.0), tuned: (-3.0, -1.0, -2.0), old: (-1.0, -2.0, -3.0)}
    for ask, logprobs in likes.items():
        stored = [answer(q, ask, readings=(reading(logprobs),) * (3 if ask is old else 1)) for q in questions]
        run.write_table(f"answers/m/{ask.weights}.parquet", to_table(stored, Answer))
    voters = {
        "base": {"model": "m", "ask": ASK.name, "adapter": None},
        "tuned": {"model": "m", "ask": tuned.name, "adapter": "its fingerprint"},
    }
    run.write("report.json", json.dumps({"voters": voters}).encode())
    return tmp_path / "answered"


@pytest.mark.parametrize(
    ("start", "likes"),
    [("", {"A": 2, "B": 2, "C": 0}), ("its fingerprint", {"A": 1, "B": 2, "C": 1}), ("new", {"A": 2})],
)
def test_the_wrong_choice_is_what_these_weights_like_best(
    solved: Path, answered: Path, start: str, likes: dict[str, int]
) -> None:
    """By right letter. Weights that nobody asked are near to the model that they were made of."""
    given = recipe(solved, objective="preference", pairs_from=str(answered))
    pairs = {(row["answer"], row["rejected"]) for row in found(given, start=start).table.to_pylist()}
    assert pairs >= set(likes.items())
    assert len(pairs) == 3


def test_pairs_are_of_a_run_that_asked_the_model_directly(solved: Path, answered: Path) -> None:
    Path(answered, "report.json").unlink()
    with pytest.raises(
        UserError, match=r"finetune.pairs_from: .* has no finished answers of a voter with method direct"
    ):
        found(recipe(solved, objective="preference", pairs_from=str(answered)))


def rows_of(training_set: Any, part: str = "train") -> list[dict[str, Any]]:
    return [row for row in training_set.table.to_pylist() if row["part"] == part]


def test_only_examples_of_the_kinds_are_learnt(tmp_path: Path) -> None:
    rows = [
        {**row, "question": f"{row['question']} What does it print?\nint main() {{ return {n * 31 % 97}; }}"}
        if n % 2
        else row
        for n, row in enumerate(ROWS)
    ]
    source = write_csv(tmp_path / "kinds.csv", rows)
    every, some = found(recipe(source)), found(recipe(source, kinds=["output"]))
    kinds = {kind_of(question_from(row)) for row in some.table.to_pylist()}
    assert kinds == {"output"}
    output = {row["task_id"] for row in rows_of(every) if kind_of(question_from(row)) == "output"}
    assert {row["task_id"] for row in rows_of(some)} == output, "no example moves to another part"
    with pytest.raises(UserError, match="no example of kind defect in the train part"):
        found(recipe(source, kinds=["defect"]))


def test_a_recipe_knows_every_kind() -> None:
    assert get_args(Kind) == KINDS


def test_contradicted_examples_are_left_out_and_listed(solved: Path) -> None:
    everything = rows_of(found(recipe(solved)))
    against = Contradiction(everything[0]["task_id"], "A", "B", "execute", "x", 1)

    def find(_: Any) -> list[Contradiction]:
        return [against]

    left = found(recipe(solved, contradicted="leave_out"), find_contradictions=find)
    assert against.task_id not in {row["task_id"] for row in left.table.to_pylist()}
    assert left.contradicted == (against,)
    assert left.train == len(everything) - 1
    assert found(recipe(solved), find_contradictions=find).contradicted == ()


def test_a_teacher_gives_the_choices_its_probabilities(solved: Path, answered: Path) -> None:
    given = recipe(solved, teacher={"run": str(answered), "voter": "base"})
    training_set = found(given)
    assert training_set.taught == training_set.train + training_set.tune
    wanted = choice_probabilities((reading((-2.0, -3.0, -1.0)),))
    assert all(row["taught"] == pytest.approx(list(wanted)) for row in training_set.table.to_pylist())
    assert training_set.fingerprint != found(recipe(solved)).fingerprint
    with pytest.raises(UserError, match=r"finetune\.teacher\.voter: .* has no finished voter other; its voters: base"):
        found(recipe(solved, teacher={"run": str(answered), "voter": "other"}))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"[" * 100_000, b"\xff", b'{"asks": 3, "voters": []}'])
def test_a_damaged_report_of_that_run_is_one_line(solved: Path, answered: Path, content: bytes) -> None:
    Path(answered, "report.json").write_bytes(content)
    with pytest.raises(UserError, match=r"finetune.pairs_from: .*(is broken: |has no finished answers)") as error:
        found(recipe(solved, objective="preference", pairs_from=str(answered)))
    assert "\n" not in str(error.value)


def test_so_are_its_damaged_answers(solved: Path, answered: Path) -> None:
    file = next(Path(answered, "answers").rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{file.name} is damaged "):
        found(recipe(solved, objective="preference", pairs_from=str(answered)))
