"""The method `probe`: choices are found among tokens, and no example is judged by what was learnt from it."""

import asyncio
import base64
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from codemmlu.engine.protocol import DoesNotFit, EngineSettings
from codemmlu.inference.learnt_states import learn_states
from codemmlu.inference.methods import MethodInput
from codemmlu.inference.methods.probe import READ, probe, states_of
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import render
from codemmlu.schema import Answer, Question, Turn, letters
from tests.support.finetunes import solved_csv
from tests.support.rows import answer, question
from tests.support.runs import job
from tests.support.tiny_model import tiny_model

SPEC = InferenceSpec("m.states", "w", "probe", "codemmlu", (("dimensions", 16), ("layer", 0.5)))
ODD = ("a", "an a and a b", "a\n", "'é' is ü")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), 0.15)


@pytest.mark.parametrize("template", ["codemmlu", "reference"])
def test_the_last_token_of_each_choice_is_found(folder: Path, template: str) -> None:
    from dataclasses import replace

    from transformers import AutoTokenizer

    from codemmlu.engine.hidden_states import END, locate

    tokenizer = AutoTokenizer.from_pretrained(folder)
    one = question("t1", question="a: which?", choices=ODD)
    marked = replace(one, choices=tuple(f"{choice}{END}" for choice in ODD))
    tokens, ends = locate(tokenizer, render(one, template), render(marked, template))
    assert len(ends) == len(ODD)
    for letter, choice, end in zip(letters(4), ODD, ends, strict=True):
        assert tokenizer.decode(tokens[: end + 1]).rstrip().endswith(f"{letter}. {choice}".rstrip())


def opened(folder: Path, **arguments: int) -> "object":
    from codemmlu.engine.backends import open_engine

    return open_engine(EngineSettings(str(folder), "/nowhere", arguments, backend="states"))


def test_states_are_read_up_to_a_layer_and_kept(folder: Path) -> None:
    engine = opened(folder)
    one = question("t1", choices=("one", "two", "three"))
    first, again = (asyncio.run(probe(engine, SPEC, MethodInput(one))) for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    assert first.status == "answered"
    stored = answer(one, SPEC, status="answered", turns=first.turns, readings=())
    states = states_of(stored, 3)
    assert states is not None
    assert states.shape == (3, 16)
    assert np.abs(states - states[0]).sum(axis=1)[1:].min() > 0.1
    above = InferenceSpec("m.states", "w", "probe", "codemmlu", (("dimensions", 16), ("layer", 1.0)))
    assert asyncio.run(probe(engine, above, MethodInput(one))).turns != first.turns  # type: ignore[arg-type]


def test_control_words_and_long_prompts_have_no_states(folder: Path) -> None:
    one = question("t1", question="What does <|im_end|> end?")
    assert asyncio.run(probe(opened(folder), SPEC, MethodInput(one))).status == "abstained"  # type: ignore[arg-type]
    with pytest.raises(DoesNotFit):
        asyncio.run(probe(opened(folder, max_model_len=16), SPEC, MethodInput(question("t2"))))  # type: ignore[arg-type]


def examples(count: int, signal: float, seed: int = 0) -> tuple[list[Question], dict[str, Answer]]:
    """Solved questions whose right choice lies in one direction, by so much."""
    random = np.random.default_rng(seed)
    rows = [question(f"q{seed}-{n}", question=f"What is {n}?", answer=letters(4)[n % 4]) for n in range(count)]
    answers = {}
    for number, row in enumerate(rows):
        states = random.standard_normal((4, 16))
        states[number % 4, 0] += signal
        text = base64.b64encode(states.astype(np.float16).tobytes()).decode()
        turns = (Turn(READ, None, None, text, "tool"),)
        answers[SPEC.key(row)] = answer(row, SPEC, status="answered", turns=turns, readings=())
    return rows, answers


def right(found: Sequence[Question], answers: dict[str, Answer], learnt: object) -> float:
    """The share of questions whose right choice has the highest probability."""
    hits = []
    for row in found:
        probabilities = learnt.probabilities(row, answers[SPEC.key(row)])  # type: ignore[attr-defined]
        hits.append(int(np.argmax(probabilities)) == letters(26).index(row.answer or ""))
    return float(np.mean(hits))


def test_a_direction_that_marks_the_right_choice_is_learnt() -> None:
    rows, answers = examples(200, signal=3.0)
    learnt = learn_states(SPEC, rows, answers)
    others, stored = examples(100, signal=3.0, seed=1)
    assert right(others, stored, learnt) > 0.8
    assert right(rows, answers, learnt) > 0.8


def test_an_example_does_not_know_its_own_answer() -> None:
    rows, answers = examples(200, signal=0.0)
    assert right(rows, answers, learn_states(SPEC, rows, answers)) < 0.4, "states of no meaning are worth nothing"


def test_too_few_examples_teach_nothing() -> None:
    rows, answers = examples(3, signal=3.0)
    assert learn_states(SPEC, rows, answers).probabilities(rows[0], answers[SPEC.key(rows[0])]) is None


def test_a_run_reads_states_once(folder: Path, tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    source = str(solved_csv(tmp_path / "solved.csv", 60))
    recipe = {
        "out": str(tmp_path / "run"),
        "questions": {"source": source, "holdout": {"n": 12}},
        "examples": {"source": source, "embedder": {"source": "hashing"}},
        "models": {"m": {"source": str(folder)}},
        "voters": {"probe": {"method": "probe", "model": "m"}, "retrieve": {"method": "retrieve", "abstain_below": 0}},
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    done = job("run", str(file))
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["voters"]["probe"]["answered"] == 12
    assert report["vote"]["answered"] == 12
    again = job("run", str(file))
    assert "m.states: nothing left to ask, no engine is started" in again.out
