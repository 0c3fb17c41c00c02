"""A soup adds exactly the mean of what its adapters add, is one adapter to an engine, and remembers what it learnt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from codemmlu.engine import lora
from codemmlu.engine.lora import CONFIG, LEARNT, MANIFEST, WEIGHTS, Adapter
from codemmlu.engine.soup import mixed
from codemmlu.errors import UserError
from codemmlu.recipe import DirectVoter, adapter_names
from codemmlu.run_dir import RunDir
from tests.support.adapters import layers, write_adapter


def adapter(folder: Path, learnt: list[str], base: str = "m", **config: Any) -> Adapter:
    """An adapter that this project trained."""
    write_adapter(folder, layers(), **config)
    (folder / LEARNT).write_text(json.dumps(learnt))
    (folder / MANIFEST).write_text(json.dumps({"base_fingerprint": base}))
    return lora.validate(str(folder), "k")


def added(one: Adapter) -> dict[str, Any]:
    """What an adapter adds to each layer."""
    config = json.loads(Path(one.folder, CONFIG).read_text())
    tensors = load_file(Path(one.folder, WEIGHTS))
    return {
        name: config["lora_alpha"] / config["r"] * (tensors[name.replace(".lora_A.", ".lora_B.")] @ tensors[name])
        for name in tensors
        if ".lora_A." in name
    }


def test_a_soup_adds_the_mean_of_what_its_parts_add(tmp_path: Path) -> None:
    first = adapter(tmp_path / "a", ["1", "2"], r=4, lora_alpha=8)
    second = adapter(tmp_path / "b", ["2", "3"], r=8, lora_alpha=4)
    run = RunDir(str(tmp_path / "run"))
    soup = mixed(run, [first, second], "k")
    assert soup.rank == 12
    one, other, both = added(first), added(second), added(soup)
    assert both.keys() == one.keys()
    for name, value in both.items():
        np.testing.assert_allclose(value, (one[name] + other[name]) / 2, rtol=1e-4, atol=1e-4)
    assert lora.learnt_by(soup.folder) == {"1", "2", "3"}
    assert lora.base_of(soup) == "m"
    assert mixed(run, [first, second], "k") == soup


def test_adapters_that_do_not_mix_are_refused(tmp_path: Path) -> None:
    first, run = adapter(tmp_path / "a", []), RunDir(str(tmp_path / "run"))
    with pytest.raises(UserError, match="k: the adapters were trained on different models"):
        mixed(run, [first, adapter(tmp_path / "b", [], base="other")], "k")
    with pytest.raises(UserError, match="has use_rslora, which a mean of adapters leaves out"):
        mixed(run, [first, adapter(tmp_path / "c", [], use_rslora=True)], "k")
    other = write_adapter(tmp_path / "d", layers(depth=1))
    with pytest.raises(UserError, match="the adapters change different layers"):
        mixed(run, [first, lora.validate(str(other), "k")], "k")


def test_several_adapters_are_served_by_one_engine(tmp_path: Path) -> None:
    first, second = adapter(tmp_path / "a", [], r=4), adapter(tmp_path / "b", [], r=16)
    assert lora.engine_arguments([first, second, first]) == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 16}


def test_a_voter_names_one_adapter_or_several() -> None:
    assert adapter_names(DirectVoter(model="m")) == ()
    assert adapter_names(DirectVoter(model="m", adapter="a")) == ("a",)
    assert adapter_names(DirectVoter(model="m", adapter=("a", "b"))) == ("a", "b")
    with pytest.raises(ValueError, match="adapter"):
        DirectVoter(model="m", adapter=("a",))
