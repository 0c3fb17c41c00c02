"""GGUF files: what is not a whole model is refused and not kept, and rotary scaling is not lost."""

import json
import math
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codemmlu.engine.gguf_reader import llama3_table, rotary_scaling, write_plain_model
from codemmlu.engine.model_source import resolve
from codemmlu.errors import UserError
from tests.support.gguf_files import HEADS, HIDDEN, write_gguf

SIZE = HIDDEN // HEADS
CONFIG = SimpleNamespace(model_type="llama", head_dim=SIZE, rope_parameters={"rope_theta": 500_000.0})


def refused(file: Path) -> str:
    """Return the error of the process that reads the file, run in this process."""
    with pytest.raises(UserError) as error:
        write_plain_model(file, file.parent / "made")
    assert not (file.parent / "made").exists()
    assert str(error.value).startswith(f"models: {file} ")
    return str(error.value)


def test_a_part_of_a_split_file_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "m-00001-of-00003.gguf").write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(UserError, match=r"m-00001-of-00003\.gguf is part 1 of 3 of a model: join the parts with"):
        resolve(str(tmp_path / "m-00001-of-00003.gguf"), str(tmp_path / "cache"))


def test_a_part_that_was_renamed_is_refused_by_its_field(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", {"split.count": 3, "split.no": 1})
    assert "is part 2 of 3 of a model: join the parts with" in refused(file)
    with pytest.raises(UserError, match=r"m\.gguf is part 2 of 3 of a model"):
        resolve(str(file), str(tmp_path / "cache"))
    assert [path for path in (tmp_path / "cache" / "models").iterdir() if path.is_dir()] == [], "half a model is kept"


def test_a_further_part_that_was_renamed_is_refused(tmp_path: Path) -> None:
    """As llama-gguf-split writes it: without a description of the model."""
    numbers = b"".join(
        struct.pack("<Q", len(name)) + name + struct.pack("<IH", 2, value)
        for name, value in ((b"split.no", 1), (b"split.count", 3))
    )
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + numbers)
    assert "it is part 2 of 3 of a model; join the parts first" in refused(file)


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", without=["blk.1.ffn_down"])
    assert "lacks 1 tensors of the model, such as model.layers.1.mlp.down_proj.weight" in refused(file)


def test_biases_that_would_be_dropped_are_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", tensors={"blk.0.attn_q.bias": [0.5] * HIDDEN})
    assert "holds biases (such as blk.0.attn_q.bias) that transformers does not read for a llama model" in refused(file)


def test_a_whole_file_keeps_the_scaling_of_llama_3(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", tensors={"rope_freqs.weight": llama3_table(500_000.0, SIZE, 8.0)})
    write_plain_model(file, tmp_path / "made")
    scaling = json.loads((tmp_path / "made" / "config.json").read_text())["rope_parameters"]
    assert scaling == {
        **{"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0},
        **{"high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    }


def test_a_folder_that_nothing_was_checked_of_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version may have put random numbers in the place of a missing tensor."""
    (tmp_path / "m.gguf").write_bytes(b"GGUF\3\0\0\0")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {{}} > $4/config.json && echo x >> {tmp_path}/made\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    folder = Path(resolve(str(tmp_path / "m.gguf"), str(tmp_path / "cache")))
    (folder / ".complete").unlink()
    for _ in range(2):
        assert Path(resolve(str(tmp_path / "m.gguf"), str(tmp_path / "cache"))) == folder
    assert (tmp_path / "made").read_text() == "x\nx\n"


def fields(**scaling: Any) -> dict[str, Any]:
    return {"general.architecture": "llama", **{f"llama.rope.scaling.{key}": value for key, value in scaling.items()}}


KINDS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    (fields(), None),
    (fields(type="none"), None),
    (fields(type="linear", factor=4.0), {"rope_type": "linear", "factor": 4.0}),
    ({"general.architecture": "llama", "llama.rope.scale_linear": 2.0}, {"rope_type": "linear", "factor": 2.0}),
    (
        fields(type="yarn", factor=4.0, original_context_length=32768, finetuned=True, attn_factor=1.0),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    ),
]


@pytest.mark.parametrize(("metadata", "scaling"), KINDS)
def test_linear_and_yarn_scaling_are_carried_over(metadata: dict[str, Any], scaling: dict[str, Any] | None) -> None:
    assert rotary_scaling(Path("m.gguf"), metadata, {}, CONFIG) == scaling


@pytest.mark.parametrize(
    ("metadata", "tables"),
    [
        (fields(type="longrope", factor=4.0), {}),
        (fields(type="yarn"), {}),
        (fields(type="yarn", factor=4.0, yarn_log_multiplier=0.1), {}),
        (fields(), {"rope_factors_long.weight": [1.0] * (SIZE // 2)}),
        (fields(), {"rope_freqs.weight": [2.0] * (SIZE // 2)}),
        (fields(), {"rope_freqs.weight": llama3_table(10_000.0, SIZE, 8.0)}),
    ],
)
def test_a_scaling_that_is_not_carried_over_is_refused(metadata: dict[str, Any], tables: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"m\.gguf scales its rotary positions .* in a way that is not carried over"):
        rotary_scaling(Path("m.gguf"), metadata, tables, CONFIG)


def test_the_table_of_llama_3_is_that_of_transformers() -> None:
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = rotary_scaling(
        Path("m.gguf"), fields(), {"rope_freqs.weight": llama3_table(500_000.0, SIZE, 32.0)}, CONFIG
    )
    config = LlamaConfig(
        hidden_size=HIDDEN, num_attention_heads=HEADS, rope_parameters={"rope_theta": 500_000.0, **(scaling or {})}
    )
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = [500_000.0 ** (-2 * pair / SIZE) for pair in range(SIZE // 2)]
    divided = [one / other for one, other in zip(plain, llama3_table(500_000.0, SIZE, 32.0), strict=True)]
    assert all(math.isclose(one, float(other), rel_tol=1e-4) for one, other in zip(divided, scaled, strict=True))
