"""A tiny Mixtral with random weights on the real engine: more experts than its own, fewer, and in two parts."""

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from codemmlu.mcq import render
from codemmlu.schema import Question, question_from
from tests.support.runs import job
from tests.support.tiny_model import tiny_mixtral
from tests.support.transformers_engine import CLOSE, TransformersEngine

pytestmark = pytest.mark.soak

SWEEP = "recipes/mixtral-experts.yaml"
EXPERTS = {"top1": 1, "top3": 3}  # by voter; the model's own number is 2


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mixtral(tmp_path_factory.mktemp("mixtral"))


def by_transformers(engine: TransformersEngine, question: Question, answer: dict[str, Any]) -> list[Any]:
    """Return the log-probabilities of the letters of each reading of an answer, as transformers computes them."""
    prompts = [render(question, "codemmlu", tuple(reading["order"])) for reading in answer["readings"]]
    return [np.array(asyncio.run(engine.score(prompt)).logprobs) for prompt in prompts]


def furthest(one: list[Any], other: list[Any]) -> float:
    """The largest difference between two log-probabilities of a letter."""
    return float(max(np.max(np.abs(a - b)) for a, b in zip(one, other, strict=True)))


def test_the_number_of_experts_is_what_the_recipe_says(
    mixtral: Path, ray_cluster: dict[str, str], tmp_path: Path
) -> None:
    """One engine after another, the second in two parts: each says what transformers does with so many experts."""
    # In float32 only the order of sums differs; in bfloat16 that alone moves a letter by a quarter.
    models = [
        f"models.{name}.{key}"
        for name in EXPERTS
        for key in (f"source={mixtral}", "dtype=float32", "allow_low_mass=true")
    ]
    models += [f"models.{name}.{key}" for name in EXPERTS for key in ("cpu_kv_cache_gib=1", "max_num_seqs=16")]
    done = job(
        "run",
        SWEEP,
        f"out={tmp_path}",
        "questions.holdout.n=12",
        f"voters=[{','.join(EXPERTS)}]",
        "models.top3.tensor_parallel=2",
        *models,
    )
    assert done.code == 0, done.err
    stored = sorted((tmp_path / "questions").glob("*.parquet"))
    questions = [question_from(row) for file in stored for row in pq.read_table(file).to_pylist()]
    expected = {}
    for name, experts in EXPERTS.items():
        engine = TransformersEngine(mixtral, num_experts_per_tok=experts)
        rows = {row["task_id"]: row for row in pq.read_table(tmp_path / "answers" / name).to_pylist()}
        assert len(rows) == len(questions) == 12
        said = [np.array(reading["logprobs"]) for one in questions for reading in rows[one.task_id]["readings"]]
        assert len(said) >= 24
        expected[name] = [one for of in questions for one in by_transformers(engine, of, rows[of.task_id])]
        gap = furthest(said, expected[name])
        print(f"{name}: a letter is {gap:.5f} from what transformers says at most")
        assert gap < CLOSE
    assert furthest(*expected.values()) > 20 * CLOSE, "the number of experts makes no difference"
    voters = json.loads((tmp_path / "report.json").read_text())["voters"]
    assert voters.keys() == EXPERTS.keys()
    assert all(numbers["accuracy"] is not None and numbers["seconds"] > 0 for numbers in voters.values())
