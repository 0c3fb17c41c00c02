"""Estimates: the asks, tokens, memory and seconds that a plan tells of each model, and of training."""

import math
from pathlib import Path
from typing import Any

import pytest

from codemmlu.cli.estimates import ExamplesPlan, ModelPlan, TrainingPlan, examples_of, model_of, placed, training_of
from codemmlu.dataset import QuestionSet
from codemmlu.engine.model_source import pinned, validate
from codemmlu.engine.placement.gpus import Resources, simulated
from codemmlu.engine.placement.memory import active_parameters
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.errors import UserError
from codemmlu.inference.voters import SpecBuilder, weights_digest
from codemmlu.mcq import render
from codemmlu.recipe import Recipe
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, to_table
from tests.support.questions import questions_csv
from tests.support.rows import answer, question

ROWS = [question(f"t{n}", question=f"question {n}") for n in range(40)]
# What one reading of all questions takes, with the characters of a token that the plan reckons with.
CHARACTERS = sum(len(render(row, "codemmlu").messages[0].content) for row in ROWS)
TOKENS = round(CHARACTERS / 3.2)
CPU = Resources(cpus=2)
QWEN = "Qwen/Qwen2.5-7B-Instruct"  # its configuration is written down


def recipe(folder: Path, *, source: str = "scripted", voters: dict[str, Any], **sections: Any) -> Recipe:
    """Return a recipe with one model, m."""
    fields = {"out": str(folder / "run"), "models": {"m": {"source": source}}, "voters": voters}
    return Recipe.model_validate({"examples": {"source": "solved.csv"}, **fields, **sections})


def planned(
    folder: Path,
    voters: dict[str, Any],
    hardware: Resources = CPU,
    examples: ExamplesPlan | None = None,
    source: str = "scripted",
) -> ModelPlan:
    """Return the plan of the one model."""
    return model_of(recipe(folder, source=source, voters=voters), "m", ROWS, hardware, examples)


def test_each_question_is_read_once(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"one": {"model": "m"}})
    assert (plan.asks, plan.kept, plan.tokens, plan.writes) == (40, 0, TOKENS, False)
    assert (plan.weights_gib, plan.kv_gib, plan.seconds) == (None, None, None), "a script has no weights"


@pytest.mark.parametrize(
    ("voters", "times"),
    [
        ({"prior": {"model": "m", "calibrate": "prior"}}, 1),  # a view on the same answers
        ({"cyclic": {"model": "m", "readings": "cyclic"}}, 2),
        ({"verify": {"model": "m", "method": "verify"}, "again": {"model": "m", "method": "verify"}}, 2),
        ({"theirs": {"method": "submission", "source": "x.csv"}}, 1),
        ({"retrieve": {"method": "retrieve"}}, 1),
    ],
)
def test_what_asks_the_same_is_counted_once(voters: dict[str, Any], times: int, tmp_path: Path) -> None:
    plan = planned(tmp_path, {"one": {"model": "m"}, **voters})
    assert plan.asks == 40 * times
    assert plan.tokens == pytest.approx(TOKENS * times, abs=1)


def test_examples_in_the_prompt_are_tokens(tmp_path: Path) -> None:
    shown = {"one": {"model": "m", "examples": 3}}
    plan = planned(tmp_path, shown, examples=ExamplesPlan(100, 320.0, ""))
    assert plan.tokens == round((CHARACTERS + 40 * 3 * 320) / 3.2)


def test_what_is_answered_already_takes_no_tokens(tmp_path: Path) -> None:
    voters = {"one": {"model": "m"}, "other": {"model": "m", "template": "reference"}}
    settings = recipe(tmp_path, voters=voters)
    before = planned(tmp_path, voters)
    weights = weights_digest(validate("scripted", None, ""), settings.models["m"])
    ask = SpecBuilder(weights).build(settings.asked["one"])
    run = RunDir(settings.out)
    run.write_table("answers/m/a.parquet", to_table([answer(row, ask) for row in ROWS[:20]], Answer))
    after = planned(tmp_path, voters)
    assert (before.kept, after.kept, after.asks) == (0, 20, 80)
    assert after.tokens == pytest.approx(before.tokens * 60 / 80, abs=1)


@pytest.mark.parametrize(("method", "writes"), [("reason", True), ("sample", True), ("verify", False)])
def test_methods_that_write_are_said(method: str, writes: bool, tmp_path: Path) -> None:
    assert planned(tmp_path, {"one": {"model": "m", "method": method}}).writes == writes


def test_seconds_follow_from_what_a_token_computes(tmp_path: Path) -> None:
    """Two FLOP for each parameter, at four tenths of what the GPUs can do; on one more of them it is half."""
    shape = ModelFacts(pinned()[QWEN]["config"], None).shape
    assert shape
    flop = 2 * active_parameters(shape) * TOKENS
    voters = {"one": {"model": "m"}}
    for gpus in ("1xL4", "2xL4"):
        plan = planned(tmp_path, voters, simulated(gpus), source=QWEN)
        assert plan.placement.at_most * plan.placement.gpus_each == int(gpus[0])
        assert plan.seconds == pytest.approx(flop / (int(gpus[0]) * 0.4 * 121e12))
    fewer = placed(plan, planned(tmp_path, voters, simulated("1xL4"), source=QWEN).placement, simulated("2xL4"))
    assert fewer.seconds == pytest.approx(flop / (0.4 * 121e12)), "beside another model it has one GPU alone"


def test_the_cpu_gets_slower_with_fewer_cores(tmp_path: Path) -> None:
    seconds = [planned(tmp_path, {"one": {"model": "m"}}, Resources(cpus=n), source=QWEN).seconds for n in (2, 8)]
    assert seconds[0]
    assert seconds[1]
    assert seconds[0] == pytest.approx(4 * seconds[1])


def test_weights_and_cache_are_told_of_a_model_that_is_known(tmp_path: Path) -> None:
    plan = planned(tmp_path, {"one": {"model": "m"}}, source=QWEN)
    assert plan.weights_gib == pytest.approx(pinned()[QWEN]["bytes"] / 2**30)
    assert plan.kv_gib == 2, "the recipe's default on a CPU"
    assert plan.kept is None, "of a model on the Hub the fingerprint is not known here"
    assert planned(tmp_path, {"one": {"model": "m"}}, simulated("1xL4"), source=QWEN).kv_gib is None


def examples(folder: Path, n: int, **more: Any) -> dict[str, Any]:
    """Write a file of examples, and return the section that names it."""
    return {"source": str(questions_csv(folder / "solved.csv", n, text="{i} and {i}?")), **more}


def plan_of(given: Recipe) -> ExamplesPlan | None:
    return examples_of(given, QuestionSet(given))


RETRIEVE = {"retrieve": {"method": "retrieve"}}


def test_examples_are_counted_without_those_held_out(tmp_path: Path) -> None:
    plan = plan_of(recipe(tmp_path, voters=RETRIEVE, examples=examples(tmp_path, 10)))
    assert plan
    assert plan.count == 10
    assert plan.characters == len("0 and 0?") + len("this") + len("that 0") + len("those")
    assert "examples: 10 with an answer" in plan.line
    assert "an index (exact, embedded) is made at" in plan.line


def test_without_a_voter_that_looks_no_examples_are_read(tmp_path: Path) -> None:
    nowhere = recipe(tmp_path, voters={"one": {"model": "m"}}, examples={"source": "/no/file.csv"})
    assert plan_of(nowhere) is None


def test_an_index_that_is_nowhere_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"examples\.index: there is none at .*nowhere; give examples\.source"):
        plan_of(recipe(tmp_path, voters=RETRIEVE, examples={"index": str(tmp_path / "nowhere")}))


def trained(folder: Path, rows: int = 60, hardware: Resources = CPU, **settings: Any) -> TrainingPlan:
    """Return the plan of a training on so many examples."""
    finetune = {"model": "m", "batch_size": 7, "accumulation": 2, **settings}
    sections = {"examples": examples(folder, rows), "finetune": finetune}
    made = recipe(folder, source=QWEN, voters={"one": {"model": "m"}}, **sections)
    assert made.finetune
    return training_of(made, made.finetune, QuestionSet(made), hardware)


@pytest.mark.parametrize(
    ("settings", "sequences"),
    [({}, 1), ({"epochs": 3}, 3), ({"workers": 2}, 1), ({"accumulation": 1, "epochs": 2}, 2)],
)
def test_a_step_holds_the_sequences_of_all_workers(settings: dict[str, Any], sequences: int, tmp_path: Path) -> None:
    plan = trained(tmp_path, **settings)
    assert plan.sequences == sequences * plan.examples
    assert 0 < plan.examples < 60, "some examples are kept for stopping"
    each = 7 * settings.get("accumulation", 2) * settings.get("workers", 1)
    assert plan.steps == math.ceil(plan.sequences / each)


def test_more_to_train_on_takes_more_tokens(tmp_path: Path) -> None:
    plain = trained(tmp_path)
    assert trained(tmp_path, epochs=2).tokens == pytest.approx(2 * plain.tokens, abs=1)
    assert trained(tmp_path, synthesise=plain.examples).sequences == 2 * plain.examples
    shown = trained(tmp_path, examples=2, withhold=0.5)
    assert shown.tokens == pytest.approx(2 * plain.tokens, abs=1), "half of the prompts have three questions"


def test_computing_forwards_again_takes_half_as_long_again(tmp_path: Path) -> None:
    seconds = [trained(tmp_path, gradient_checkpointing=on).seconds or 0 for on in (False, True)]
    assert seconds[0] > 0
    assert seconds[1] == pytest.approx(1.5 * seconds[0])
