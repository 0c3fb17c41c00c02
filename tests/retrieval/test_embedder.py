"""Finding an embedder and opening it: its fingerprint, and what is wrong with one in one line."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest

from codemmlu.engine.model_source import cache_folder
from codemmlu.errors import UserError
from codemmlu.recipe import EmbedderSettings
from codemmlu.retrieval.embedder import Embedder, find, of_length_one, open_encoder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with an embedder."""
    made = tmp_path / "model"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "config.json").write_text('{"architectures": ["Tiny"]}')
    (made / "tokenizer.json").write_text("{}")
    (made / "modules.json").write_text("[]")
    (made / "1_Pooling" / "config.json").write_text('{"pooling_mode_mean_tokens": true}')
    header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    (made / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\1")
    return made


def found(folder: Path, **settings: int) -> Embedder:
    return find(EmbedderSettings.model_validate({"source": str(folder), **settings}), "/nowhere")


def test_an_embedder_is_known_by_what_lies_in_it(folder: Path, tmp_path: Path) -> None:
    before = found(folder).fingerprint
    folder.rename(tmp_path / "elsewhere")
    assert found(tmp_path / "elsewhere", batch_size=7).fingerprint == before, "wherever it lies, however it is run"


@pytest.mark.parametrize("name", ["1_Pooling/config.json", "tokenizer.json", "modules.json", "config.json"])
def test_whatever_changes_its_vectors_changes_its_fingerprint(folder: Path, name: str) -> None:
    before = found(folder).fingerprint
    (folder / "README.md").write_text("words for people")
    assert found(folder).fingerprint == before
    (folder / name).write_text('{"other": 1}')
    assert found(folder).fingerprint != before


def test_its_weights_are_part_of_its_fingerprint(folder: Path) -> None:
    before = found(folder).fingerprint
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\2")
    assert found(folder).fingerprint != before


def test_a_file_is_not_mistaken_for_another_with_its_content(folder: Path) -> None:
    before = found(folder).fingerprint
    (folder / "1_Pooling").rename(folder / "2_Pooling")
    assert found(folder).fingerprint != before


def test_the_embedded_one_is_there() -> None:
    one = find(EmbedderSettings(), cache_folder())
    assert (one.source, one.revision, one.device) == ("embedded", None, "cpu")
    assert one == find(EmbedderSettings(), cache_folder())


def test_a_source_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        find(EmbedderSettings(source="nowhere"), "/nowhere")
    said = str(error.value)
    assert said == (
        "examples.embedder: nowhere is neither a directory, a Hub id (OWNER/NAME), `embedded` nor `hashing`"
    )


def test_a_directory_without_a_model_is_an_error(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(UserError) as error:
        found(folder)
    said = str(error.value)
    assert said.startswith("examples.embedder: ")
    assert "has no config.json" in said
    assert "\n" not in said


def test_the_embedded_model_reads_meaning() -> None:
    """No word is shared: only a model knows which two texts are about the same."""
    encoder = open_encoder(find(EmbedderSettings(), cache_folder()))
    asked, near, far = encoder.encode(["How do I sort a list?", "ordering the elements of an array", "open a socket"])
    assert asked.shape == (384,)
    np.testing.assert_allclose([vector @ vector for vector in (asked, near, far)], 1, atol=1e-5)
    assert asked @ near > asked @ far + 0.2


def test_a_model_that_cannot_be_loaded_is_an_error(folder: Path) -> None:
    with pytest.raises(UserError) as error:
        open_encoder(found(folder))
    said = str(error.value)
    assert said.startswith(f"examples.embedder: {folder} cannot be loaded: ")
    assert "\n" not in said


def test_vectors_that_were_normalised_in_bfloat16_are_of_length_one() -> None:
    rounded = np.asarray([[0.6016, 0.8008], [0.0, 0.0]], dtype=np.float32)
    assert np.linalg.norm(of_length_one(rounded), axis=1) == pytest.approx([1.0, 0.0], abs=1e-6)
    exact = np.asarray([[0.6, 0.8]], dtype=np.float32)
    assert of_length_one(exact) is exact, "the vectors of healthy models stay as they are, bit for bit"
