"""Files of models, adapters, scripts and indexes from anyone."""

import os
import struct
from pathlib import Path

import pytest

from tests.support.hostile import DEEP, NOISE, dry, model, recipe, weights, within_limits

SPANS: tuple[object, ...] = ([-1, 4], [0, 10**30], [4, 0], [0], "ab", None, {})
WEIGHTS = [
    *(weights(w={"dtype": "F32", "shape": [1], "data_offsets": span}) for span in SPANS),
    *(
        weights(w={"dtype": "F32", "shape": [1], "data_offsets": [float("inf"), 1]}),
        weights(w=3),
        weights(),
        b"",
        b"\xff" * 8,
    ),
    *(struct.pack("<Q", 4) + text for text in (b"[[[[", b"null", b"3.14", b"\xff\xff\xff\xff")),
    struct.pack("<Q", len(DEEP)) + DEEP,
    struct.pack("<Q", 2**62),
]


@pytest.mark.parametrize("number", range(len(WEIGHTS)))
@pytest.mark.parametrize("use", ["model", "embedder"])
def test_weights(tmp_path: Path, number: int, use: str) -> None:
    folder = model(tmp_path, {"model.safetensors": WEIGHTS[number]})
    if use == "model":
        dry(tmp_path, f"models.m.source={folder}", "voters.v.model=m")
        return
    examples = (f"examples.embedder.source={folder}", f"examples.source={tmp_path}/good.jsonl")
    dry(tmp_path, *examples, "voters.v.method=retrieve")


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors.index.json", "chat_template.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_files_of_a_model(tmp_path: Path, name: str, number: int) -> None:
    folder = model(tmp_path, {name: NOISE[number]})
    dry(tmp_path, f"models.m.source={folder}", "voters.v.model=m")


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"])
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_files_of_an_embedder(tmp_path: Path, name: str, number: int) -> None:
    folder = model(tmp_path, {name: NOISE[number]})
    examples = (f"examples.embedder.source={folder}", f"examples.source={tmp_path}/good.jsonl")
    dry(tmp_path, *examples, "voters.v.method=retrieve")


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_gguf_files(tmp_path: Path, number: int) -> None:
    (tmp_path / "m.gguf").write_bytes((b"GGUF" if number % 2 else b"") + NOISE[number])
    done = dry(tmp_path, f"models.m.source={tmp_path}/m.gguf", "voters.v.model=m")
    assert done.code == 2


def test_weights_that_are_a_pipe(tmp_path: Path) -> None:
    folder = model(tmp_path, {})
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    done = dry(tmp_path, f"models.m.source={folder}", "voters.v.model=m")
    assert done.code == 2


@pytest.mark.parametrize("name", ["adapter_config.json", "manifest.json", "adapter_model.safetensors"])
@pytest.mark.parametrize("number", range(len(NOISE)))
def test_files_of_an_adapter(tmp_path: Path, name: str, number: int) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8}')
    (folder / "adapter_model.safetensors").write_bytes(weights())
    (folder / name).write_bytes(NOISE[number])
    dry(tmp_path, "models.m.source=scripted", "voters.v={model: m}", f"voters.v.adapter={folder}")


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_scripts(tmp_path: Path, number: int) -> None:
    (tmp_path / "script.yaml").write_bytes(NOISE[number])
    dry(tmp_path, f"models.m.source='scripted:{tmp_path}/script.yaml'", "voters.v.model=m")


@pytest.mark.parametrize("number", range(len(NOISE)))
def test_manifests_of_an_index(tmp_path: Path, number: int) -> None:
    folder = tmp_path / "index"
    folder.mkdir()
    (folder / "manifest.json").write_bytes(NOISE[number])
    index = (f"examples.index={folder}", "examples.embedder.source=hashing", "voters.v.method=retrieve")
    done = within_limits("vote", recipe(tmp_path), *index)
    assert done.code == 2
