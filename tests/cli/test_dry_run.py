"""Plans: every recipe on the hardware that it names, through the command that people type."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from codemmlu.cli import steps
from codemmlu.cli.main import main
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.errors import UserError
from codemmlu.recipe import load

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/*.yaml"))
MIXTRAL = "recipes/mixtral-8x7b-2xt4.yaml"


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main("run", "", steps.run, [*arguments, "--dry-run"])
    return code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written down has to do."""

    def asked(*_: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("codemmlu.engine.model_source._on_hub", asked)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_a_plan_on_the_hardware_it_names(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = re.search(r"--dry-run --gpus (\S+)", recipe.read_text())
    code, out, err = plan(capsys, str(recipe), "--json", "--gpus", named[1] if named else "2xT4", f"out={tmp_path}/x")
    assert code == 0, err
    report = json.loads(out)
    holdout = load(str(recipe), []).questions.holdout
    assert report["questions"] == (holdout.n if holdout else 144)
    for model in report["models"].values():
        memory = model["memory"]
        assert memory["sum"] == pytest.approx(memory["usable"])
        assert memory["cache_tokens"] >= memory["length"]
    assert not (tmp_path / "x").exists(), "a dry run wrote something"


def test_mixtral_on_two_t4s_is_planned_with_its_sum(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = plan(capsys, MIXTRAL, "--gpus", "2xT4")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("mixtral (")]
    assert "1 engine of 2 GPU" in line
    terms = re.search(
        r"weights ([\d.]+) \+ activations ([\d.]+) \+ CUDA ([\d.]+) \+ KV cache ([\d.]+) = ([\d.]+) GiB", line
    )
    assert terms
    *summands, total = map(float, terms.groups())
    assert sum(summands) == pytest.approx(total, abs=0.03)
    assert total < 14.56


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--gpus", "1xT4"], r"models\.mixtral: an engine on 1 x T4 needs 24\.\d GiB .*; 2 x T4 would hold it"),
        (["--gpus", "2xT4", "models.mixtral.max_model_len=32768"], r"models\.mixtral\.max_model_len=\d+ would fit"),
        (
            ["--gpus", "2xV100"],
            r"quantization: awq needs a GPU of CUDA capability 7\.5, V100 is older",
        ),
        (
            ["--gpus", "2xT4", "models.mixtral.dtype=bfloat16"],
            r"dtype: T4 does not compute in bfloat16",
        ),
        (
            ["--gpus", "2xT4", "models.mixtral.experts_per_token=9"],
            r"experts_per_token: 9 of 8 experts; give 8",
        ),
        (["--gpus", "1xT4", "models.mixtral.tensor_parallel=2"], r"1 x 2 GPUs are asked for, .* there are 1"),
        (["--gpus", "2xT4", "models.mixtral.replicas=[2,1]"], r"replicas: \[least, most\], and 2 is more than 1"),
    ],
)
def test_what_cannot_fit_is_refused_with_what_would(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = plan(capsys, MIXTRAL, *arguments)
    assert code == 2
    assert re.search(says, err), err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("gpus", "overrides", "placed"),
    [
        ("8xH100", [], {"replicas": 8, "gpus_each": 1}),
        ("4x4xL4", [], {"replicas": 8, "gpus_each": 2, "tensor_parallel": 2}),
        ("4x1xL4", [], {"replicas": 2, "gpus_each": 2, "pipeline_parallel": 2}),
        ("1xT4+8xH100", [], {"replicas": 8, "gpus_each": 1}),  # not on the T4
        ("2xT4+2xL4", [], {"replicas": 1, "gpus_each": 2}),
        ("8xH100", ["models.mixtral.replicas=[2,5]"], {"replicas": 2, "most": 5}),
        ("8xH100", ["models.mixtral.tensor_parallel=4"], {"replicas": 2, "gpus_each": 4, "tensor_parallel": 4}),
        ("2x4xH100", ["models.mixtral.tensor_parallel=4", "models.mixtral.pipeline_parallel=2"], {"gpus_each": 8}),
    ],
)
def test_where_engines_go(
    gpus: str, overrides: list[str], placed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = plan(capsys, MIXTRAL, "--json", "--gpus", gpus, *overrides)
    assert code == 0, err
    model = json.loads(out)["models"]["mixtral"]
    assert {name: model[name] for name in placed} == placed


def test_engines_of_one_kind_stay_on_that_kind(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = plan(capsys, MIXTRAL, "--gpus", "1xT4+8xH100")
    assert "8 engines of 1 H100" in out
    _, out, _ = plan(capsys, MIXTRAL, "--gpus", "4x1xL4")
    assert "2 engines of 2 L4 (2 stages of 1) on several nodes" in out


def test_a_cluster_that_grows_begins_with_one_engine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, err = plan(capsys, "recipes/demo.yaml", "gpus=4x1xL4", f"out={tmp_path}/x")
    assert code == 0, err
    assert "Hardware: up to 4 nodes of 1 x L4." in out
    assert "1 to 4 engines of 1 GPU" in out
    code, _, err = plan(capsys, "recipes/demo.yaml", "gpus=many", f"out={tmp_path}/x")
    assert code == 2
    assert err.startswith("error: gpus: 'many': write how many of which kind")


def test_of_a_model_that_nobody_knows_nothing_is_guessed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object) -> None:
        raise UserError("the Hub cannot be reached")

    monkeypatch.setattr("codemmlu.engine.model_source._on_hub", unreachable)
    code, out, err = plan(capsys, MIXTRAL, "--gpus", "2xT4", "models.mixtral.source=some/model")
    assert code == 0, err
    assert "memory: not known: neither is the model here, nor does the Hub say its size" in out
    assert "2 engines of 1 GPU" in out


def test_models_with_room_for_each_other_go_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = plan(capsys, "recipes/mixtral-experts.yaml", "--gpus", "8xL4")
    assert out.count("1 engine of 2 GPU") == 4
    assert "top1, top2, top3, top4: side by side" in out
    _, out, _ = plan(capsys, "recipes/mixtral-experts.yaml", "--gpus", "2xL4")
    assert "The models are asked one after another" in out
    _, out, _ = plan(capsys, "recipes/ensemble-best.yaml", "--gpus", "4xT4")
    assert "qwen, coder: side by side" in out, "mixtral waits for what they leave unclear"


HUGE = {
    **{"model_type": "llama", "hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126},
    **{"num_attention_heads": 128, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 131072},
}


@pytest.mark.parametrize("gpus", ["1xT4", "8xH100", "1xT4+2xH100"])
def test_what_nothing_holds_is_refused_in_one_line_too(
    gpus: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = ModelFacts(HUGE, 810_000_000_000)
    monkeypatch.setattr("codemmlu.engine.model_source.known", lambda *_: known)
    code, _, err = plan(capsys, MIXTRAL, "--gpus", gpus, "models.mixtral.source=some/giant")
    assert code == 2
    assert err.count("\n") == 1
    assert "takes a quarter" in err
    assert ("T4 needs" in err) == (gpus == "1xT4"), "of several kinds, what the largest lacks"
