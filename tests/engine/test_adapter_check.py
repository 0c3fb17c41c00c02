"""Adapters that answer as the model alone, or that end an engine, are refused before an engine starts."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from codemmlu.engine import adapter_check, lora
from codemmlu.engine.adapter_check import other_base
from codemmlu.engine.lora import CONFIG, WEIGHTS, validate
from codemmlu.engine.model_source import Model, cache_folder
from codemmlu.engine.model_source import validate as validate_model
from codemmlu.engine.vllm_engine import VllmEngine
from codemmlu.errors import UserError
from codemmlu.inference.adapters import refuse_other_base
from codemmlu.mcq import render
from codemmlu.schema import Reading
from tests.support.adapters import layers, write_adapter
from tests.support.rows import question
from tests.support.tiny_model import tiny_model

KEY = "voters.tuned.adapter"


def inspect_adapter(path: str, key: str, name: str, model: Model | None) -> lora.Adapter:
    """Check an adapter as a run does."""
    adapter = refuse_other_base(lora.validate(path, key), key, name, model)
    adapter_check.check(adapter, key, name, model)
    return adapter


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return validate_model(str(tiny_model(tmp_path_factory.mktemp("base"))), None, cache_folder())


def refused(folder: Path, model: Model | None) -> str:
    with pytest.raises(UserError) as error:
        inspect_adapter(str(folder), KEY, "smol", model)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{KEY}: {folder}")
    return str(error.value)


def test_an_adapter_of_the_model_is_taken(base: Model, tmp_path: Path) -> None:
    assert inspect_adapter(str(write_adapter(tmp_path / "a", layers())), KEY, "smol", base).rank == 4
    fewer = write_adapter(tmp_path / "b", layers(depth=1), layers_to_transform=[0])
    assert inspect_adapter(str(fewer), KEY, "smol", base)
    gaussian = write_adapter(tmp_path / "c", layers(), init_lora_weights="gaussian", use_rslora=True, bias="none")
    assert inspect_adapter(str(gaussian), KEY, "smol", base)


@pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model.", "", "transformer."])
def test_names_that_match_no_layer_are_refused(prefix: str, base: Model, tmp_path: Path) -> None:
    text = refused(write_adapter(tmp_path / "a", layers(prefix)), base)
    assert "changes none of models.smol's layers: its names are such as " in text
    assert f"such as {prefix}layers.0.mlp.down_proj, the model's such as model.layers.0.mlp.down_proj;" in text


OTHER_MODELS: dict[str, tuple[dict[str, tuple[int, int]], str]] = {
    "deeper": (layers(depth=3), "3 layers that models.smol does not have, such as model.layers.2.mlp.down_proj"),
    "shallower": (layers(depth=1), "1 of the 2 layers model.layers.*.mlp.down_proj of models.smol"),
    "wider": (layers(q_proj=(128, 128)), "q_proj maps 128 numbers to 128, that of models.smol 64 to 64"),
    "fewer heads": (layers(v_proj=(32, 64)), "v_proj maps 64 numbers to 32, that of models.smol 64 to 64"),
    "experts": (
        layers() | {"model.layers.0.mlp.experts.0.w1": (128, 64)},
        "1 layers that models.smol does not have, such as model.layers.0.mlp.experts.0.w1",
    ),
    "fused": (
        layers(qkv_proj=(192, 64)),
        "2 layers that models.smol does not have, such as model.layers.0.self_attn.qkv",
    ),
}


@pytest.mark.parametrize("other", OTHER_MODELS)
def test_an_adapter_of_another_model_is_refused(other: str, base: Model, tmp_path: Path) -> None:
    changed, says = OTHER_MODELS[other]
    assert says in refused(write_adapter(tmp_path / "a", changed), base)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"use_dora": True}, "has DoRA (use_dora in adapter_config.json), which vLLM cannot serve"),
        ({"modules_to_save": ["lm_head"]}, "replaces whole layers (modules_to_save: lm_head"),
        ({"bias": "all"}, "has biases (bias: all"),
        ({"lora_bias": True}, "LoRA with a bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights: pissa, which also changes the model's weights"),
        ({"trainable_token_indices": [1]}, "trained tokens"),
        ({"lora_alpha": None}, "has no lora_alpha"),
        ({"rank_pattern": {"q_proj": "8"}}, "rank_pattern in adapter_config.json is no mapping"),
        ({"rank_pattern": {"q_proj": 1024}}, "has rank 1024; vLLM serves up to 512"),
        ({"r": 0}, "has rank 0"),
        ({"r": True}, "is a LORA adapter; a LORA one with a rank"),
        ({"r": 8}, "and adapter_config.json gives it the rank 8: the two files do not belong together"),
        ({"rank_pattern": {"layers.1.self_attn.q_proj": 2}}, "for model.layers.1.self_attn.q_proj, and adapter_conf"),
        ({"rank_pattern": {"(": 8}}, "rank_pattern in adapter_config.json is no regular expression"),
        ({"lora_alpha": 0}, "scales weights by lora_alpha 0: that has to be a number, and not 0"),
        ({"lora_alpha": math.nan}, "scales weights by lora_alpha nan"),
        ({"alpha_pattern": {"q_proj": "8"}}, "scales weights by lora_alpha '8'"),
    ],
)
def test_what_vllm_cannot_load_is_refused(config: dict[str, Any], says: str, base: Model, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", layers())
    (folder / CONFIG).write_text(json.dumps({**json.loads((folder / CONFIG).read_text()), **config}))
    for model in (base, None):
        assert says in refused(folder, model)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (cut, "bytes, not "),
    "a git-lfs pointer": (
        lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
        "only git-lfs's pointer to the file; fetch it with `git lfs pull`",
    ),
    "a page": (lambda f: f.write_bytes(b"<!DOCTYPE html>" * 9), "is no safetensors file"),
    "empty": (lambda f: f.write_bytes(b""), "is no safetensors file"),
    "only pickled": (
        lambda f: f.rename(f.with_suffix(".bin")),
        "has no adapter_model.safetensors; adapter_model.bin is not read, as pickled weights run code",
    ),
    "a pointer to the configuration": (
        lambda f: (f.parent / CONFIG).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "adapter_config.json is only git-lfs's pointer; fetch it with",
    ),
    "half a layer": (lambda f: write_half(f), "holds one half of the weights of model.layers.0.self_attn.q_proj"),
    "no weights": (lambda f: f.write_bytes(b"\2\0\0\0\0\0\0\0{}"), "holds no LoRA weights"),
    "not trained": (lambda f: write_untrained(f), "all of its lora_B weights are zero: it was not trained"),
    "magnitudes": (lambda f: write_magnitudes(f), "lora_magnitude_vector, which is no LoRA weight"),
}


def write_untrained(file: Path) -> None:
    import numpy as np
    from safetensors.numpy import load_file, save_file

    save_file({name: np.zeros_like(x) if "lora_B" in name else x for name, x in load_file(file).items()}, file)


def write_half(file: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((4, 64), "float32")}, file)


def write_magnitudes(file: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector": np.ones(64, "float32")}, file)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_weight_file_is_refused(damage: str, base: Model, tmp_path: Path) -> None:
    damages, says = DAMAGES[damage]
    folder = write_adapter(tmp_path / "a", layers())
    damages(folder / WEIGHTS)
    assert says in refused(folder, base)


def test_the_rank_is_the_largest_of_any_layer(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", layers(), r=8, rank_pattern={"q_proj": 64})
    assert validate(str(folder), KEY).rank == 64


def test_widths_of_a_hub_model_come_from_its_config(base: Model, tmp_path: Path) -> None:
    on_hub = Model("owner/tiny", "main", "f", None, base.config)
    assert inspect_adapter(str(write_adapter(tmp_path / "a", layers())), KEY, "smol", on_hub)
    wide = write_adapter(tmp_path / "b", layers(q_proj=(128, 128)))
    assert "q_proj maps 128 numbers to 128, that of models.smol 64 to 64" in refused(wide, on_hub)


@pytest.mark.parametrize(
    ("named", "other"),
    [(None, None), ("", None), ("/elsewhere/base", None), ("owner/BASE", None), ("owner/other", "owner/other")],
)
def test_another_models_name_is_noted(named: str | None, other: str | None, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", layers(), base_model_name_or_path=named)
    assert other_base(str(folder), Model("/models/base", None, "f", None, {})) == other


def test_weights_that_are_no_numbers_are_refused() -> None:
    """vLLM loads them, and every answer would be a failed one."""
    engine = VllmEngine.__new__(VllmEngine)
    readings = {
        "": Reading((0, 1), (-0.5, -0.9), 1.0, 9, 0),
        "a": Reading((0, 1), (math.nan, math.nan), math.nan, 9, 0),
    }
    loads = SimpleNamespace(add_lora=mock.AsyncMock())
    score = mock.AsyncMock(side_effect=lambda prompt, adapter="": readings[adapter])
    with (
        mock.patch.multiple(engine, create=True, _llm=loads, _source="m", _adapter=str, score=score),
        pytest.raises(UserError, match=r"adapter a gives letters of m no finite log-probability: its weights hold"),
    ):
        asyncio.run(engine.check_adapter(render(question("t1"), "codemmlu"), "a"))
