"""A tiny Mixtral with random weights on the real engine: in one part and in two, and with fewer experts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from codemmlu.engine.sources import cache_folder, materialise
from tests.runs import job

pytestmark = pytest.mark.soak

SWEEP = "recipes/mixtral-experts.yaml"


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
    models = [f"models.{name}.source={mixtral}" for name in ("top1", "top2", "top3", "top4")]
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


def test_two_parts_say_what_one_says_and_one_expert_something_else(mixtral: Path, tmp_path: Path) -> None:
    whole = answers(mixtral, tmp_path / "whole", ("top2",))["top2"]
    parts = answers(
        mixtral,
        tmp_path / "parts",
        ("top1", "top2"),
        *(f"models.{name}.tensor_parallel=2" for name in ("top1", "top2")),
    )
    split, fewer = furthest(whole, parts["top2"]), furthest(whole, parts["top1"])
    print(
        f"largest difference of a letter: tensor_parallel 2 against 1 {split:.4f}, one expert against two {fewer:.4f}"
    )
    assert split < 0.005
    assert fewer > 100 * split
    report = json.loads((tmp_path / "parts" / "report.json").read_text())
    for voter in ("top1", "top2"):
        assert report["voters"][voter]["accuracy"] is not None
        assert report["voters"][voter]["seconds"] > 0


def test_more_experts_than_there_are_is_said_before_anything_starts(mixtral: Path, tmp_path: Path) -> None:
    done = job(
        "run", SWEEP, "voters=[top4]", f"models.top4.source={mixtral}", "models.top4.experts_per_token=5", "--dry-run"
    )
    assert done.code == 2
    assert "models.top4.experts_per_token: 5 of 4 experts; give 4 at most" in done.err
