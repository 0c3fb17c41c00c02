"""A tiny Mixtral with random weights on the real engine: with one to four experts, and in two parts."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from codemmlu.engine.sources import cache_folder, materialise
from tests.runs import job

pytestmark = pytest.mark.soak

SWEEP = "recipes/mixtral-experts.yaml"
TOPS = ("top1", "top2", "top3", "top4")


@pytest.fixture(scope="module")
def mixtral(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four experts, of which two look at each token, behind the embedded model's tokenizer."""
    import torch
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    folder = tmp_path_factory.mktemp("mixtral")
    tokenizer = AutoTokenizer.from_pretrained(materialise("embedded", cache_folder()))
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=4096,
        initializer_range=0.15,  # wide, so that which experts look makes a difference
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder


def answers(mixtral: Path, out: Path, voters: tuple[str, ...], *overrides: str) -> dict[str, list[dict[str, Any]]]:
    """The answers of some voters of the sweep, by the model that gave them, in the order of the questions."""
    models = [f"models.{name}.source={mixtral}" for name in TOPS]
    # In float32 only the order of sums differs; in bfloat16 that alone moves a letter by a quarter.
    models += [f"models.{name}.{said}" for name in voters for said in ("dtype=float32", "cpu_kv_cache_gib=1")]
    done = job(
        "run", SWEEP, f"out={out}", "questions.holdout.n=12", f"voters=[{','.join(voters)}]", *models, *overrides
    )
    assert done.code == 0, done.err
    return {
        name: sorted(pq.read_table(out / "answers" / name).to_pylist(), key=lambda row: str(row["task_id"]))
        for name in voters
    }


def furthest(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> float:
    """The largest difference between two log-probabilities of a letter."""
    assert [row["task_id"] for row in one] == [row["task_id"] for row in other]
    gaps = [
        np.max(np.abs(np.array(a["logprobs"]) - np.array(b["logprobs"])))
        for left, right in zip(one, other, strict=True)
        for a, b in zip(left["readings"], right["readings"], strict=True)
    ]
    assert len(gaps) >= 24
    return float(max(gaps))


@pytest.fixture(scope="module")
def sweep(mixtral: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The whole sweep, one engine after another: its answers, and what its report says of each voter."""
    out = tmp_path_factory.mktemp("sweep")
    found = answers(mixtral, out, TOPS)
    return {"answers": found, "voters": json.loads((out / "report.json").read_text())["voters"]}


def test_the_number_of_experts_is_swept(sweep: dict[str, Any]) -> None:
    """Each says something else, and the report sets accuracy beside seconds."""
    gaps = [furthest(sweep["answers"][one], sweep["answers"][other]) for one, other in pairwise(TOPS)]
    shown = {name: (told["accuracy"], round(told["seconds"], 1)) for name, told in sweep["voters"].items()}
    print(f"largest difference of a letter from one to the next {[round(gap, 2) for gap in gaps]}; {shown}")
    assert min(gaps) > 0.05
    assert set(shown) == set(TOPS)
    assert all(accuracy is not None and seconds > 0 for accuracy, seconds in shown.values())


def test_two_parts_say_what_one_says(mixtral: Path, sweep: dict[str, Any], tmp_path: Path) -> None:
    parts = answers(mixtral, tmp_path / "parts", ("top2",), "models.top2.tensor_parallel=2")
    gap = furthest(sweep["answers"]["top2"], parts["top2"])
    print(f"largest difference of a letter, tensor_parallel 2 against 1: {gap:.4f}")
    assert gap < 0.005


def test_more_experts_than_there_are_is_said_before_anything_starts(mixtral: Path, tmp_path: Path) -> None:
    done = job(
        "run", SWEEP, "voters=[top4]", f"models.top4.source={mixtral}", "models.top4.experts_per_token=5", "--dry-run"
    )
    assert done.code == 2
    assert "models.top4.experts_per_token: 5 of 4 experts; give 4 at most" in done.err
