"""Model sources on this machine: what is wrong with one is said in one line before anything is loaded."""

import hashlib
import importlib.metadata
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codemmlu.engine.bundled import SMOLLM2
from codemmlu.engine.model_source import cache_folder, is_on_hub, resolve, validate
from codemmlu.errors import UserError


def safetensors(data: bytes = b"\1\2\3\4") -> bytes:
    """A file with one tensor of these bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return struct.pack("<Q", len(header)) + header + data


def fault(source: str | Path, cache: Path, revision: str | None = None) -> str:
    """Return the text of the error; always one line."""
    with pytest.raises(UserError) as error:
        validate(str(source), revision, str(cache))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a whole model."""
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"architectures": ["Tiny"]}')
    (made / "tokenizer.json").write_text("{}")
    (made / "tokenizer_config.json").write_text('{"chat_template": "a"}')
    (made / "model.safetensors").write_bytes(safetensors())
    return made


def test_a_whole_directory_is_a_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = validate(str(folder), None, str(tmp_path / "cache"))
    assert found.source == str(folder)
    assert found.revision is None
    assert found.config == {"architectures": ["Tiny"]}
    assert found.weight_bytes == len(safetensors())
    monkeypatch.chdir(tmp_path)
    assert validate("model", None, "cache") == validate("./model", None, "cache") == found
    monkeypatch.setenv("HOME", str(tmp_path))
    assert validate("~/model", None, "cache") == found


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def only_pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def lacks_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    named = {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": named}))


def lacks_a_part(folder: Path) -> None:
    """As `lacks_a_shard`, without the index that would name the part."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-00003.safetensors")
    (folder / "model-00003-of-00003.safetensors").write_bytes(safetensors())


def mixes_two_downloads(folder: Path) -> None:
    for name in ("model-00001-of-00001", "model-00002-of-00002"):
        (folder / f"{name}.safetensors").write_bytes(safetensors())
    (folder / "model.safetensors").unlink()


def lacks_a_part_of_many(folder: Path) -> None:
    """As `lacks_a_part`, by the names that DeepSeek-V3's files have."""
    (folder / "model.safetensors").rename(folder / "model-00001-of-000163.safetensors")


def lacks_a_layer(folder: Path) -> None:
    """Quantised, the second of three layers in a file that was left behind, and no numbers in the files' names."""
    config = {"num_hidden_layers": 3, "quantization_config": {"quant_method": "awq"}}
    (folder / "config.json").write_text(json.dumps(config))
    for layer in (0, 2):
        name = b"model.layers.%d.w" % layer
        content = safetensors()[8:].replace(b'"w"', b'"%s"' % name)
        (folder / f"part{layer}.safetensors").write_bytes(struct.pack("<Q", len(content) - 4) + content)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda d: (d / "config.json").unlink(), "has no config.json: not a model directory"),
    "a cut config": (lambda d: cut(d / "config.json"), "/config.json is broken: "),
    "a config of another kind": (lambda d: (d / "config.json").write_text("[]"), "it holds no object"),
    "a config of bytes": (lambda d: (d / "config.json").write_bytes(b"\xff\xfe"), "/config.json is broken: "),
    "no weights": (lambda d: (d / WEIGHTS).unlink(), "weights must be .safetensors, it has none"),
    "pickled weights": (only_pickled, "it has only pytorch_model.bin, which would run code when read"),
    "no tokenizer": (lambda d: (d / "tokenizer.json").unlink(), "has no tokenizer (tokenizer.json or tokenizer.model)"),
    "cut weights": (
        lambda d: cut(d / WEIGHTS),
        f"has {len(safetensors()) - 1} bytes, not {len(safetensors())}: an inc",
    ),
    "weights too long": (lambda d: (d / WEIGHTS).write_bytes(safetensors() + b"x"), "an incomplete copy"),
    "empty weights": (lambda d: (d / WEIGHTS).write_bytes(b""), "is no safetensors file"),
    "a page instead of weights": (
        lambda d: (d / WEIGHTS).write_bytes(b"<!DOCTYPE html>" * 9),
        "is no safetensors file",
    ),
    "a header of a list": (lambda d: (d / WEIGHTS).write_bytes(struct.pack("<Q", 2) + b"[]"), "is no safetensors file"),
    "offsets of words": (
        lambda d: (d / WEIGHTS).write_bytes(safetensors().replace(b"[0, 4]", b'["a"] ')),
        "is no safetensors file",
    ),
    "a missing shard": (lacks_a_shard, "has no model-00002-of-00002.safetensors, which its index names"),
    "a missing part": (lacks_a_part, "has 2 of 3 weight files: model-00002-of-00003.safetensors is missing"),
    "two downloads": (mixes_two_downloads, "has 1 of 2 weight files: model-00001-of-00002.safetensors is missing"),
    "a git-lfs pointer": (lambda d: (d / WEIGHTS).write_bytes(POINTER), "git-lfs's pointer to the file; fetch it with"),
    "a pointer to the tokenizer": (
        lambda d: (d / "tokenizer.json").write_bytes(POINTER),
        "tokenizer.json is only git-lfs's pointer to the file; fetch it with",
    ),
    "a missing part of many": (lacks_a_part_of_many, "has 1 of 163 weight files: model-00002-of-000163.safetensors"),
    "a missing layer": (lacks_a_layer, "has weights for 2 of its 3 layers: those of layer 1 are missing"),
    "a broken index": (lambda d: (d / INDEX).write_text("{}"), f"/{INDEX} is broken"),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_directory_that_is_no_whole_model_is_told_apart(broken: str, folder: Path, tmp_path: Path) -> None:
    breaks, says = BREAKS[broken]
    breaks(folder)
    said = fault(folder, tmp_path)
    assert said.startswith(f"models: {folder}")
    assert says in said


def test_a_revision_belongs_to_the_hub(folder: Path, tmp_path: Path) -> None:
    assert "revision 'main' is for Hub models" in fault(folder, tmp_path, "main")
    assert "revision 'main' is for Hub models" in fault("embedded", tmp_path, "main")


@pytest.mark.parametrize("source", ["nothing", "/no/where", "./no", "../no", "~/no/where", "a/b/c", "a/b@main"])
def test_what_is_nothing_known_is_told(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = "is neither a directory, a .gguf file, a Hub id (OWNER/NAME), `embedded` nor `scripted`"
    assert fault(source, tmp_path) == f"models: {source} {expected}"


def test_a_path_that_is_there_wins_over_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_on_hub("qwen/tiny")
    assert resolve("qwen/tiny", "cache") == "qwen/tiny"
    (tmp_path / "qwen/tiny").mkdir(parents=True)
    assert not is_on_hub("qwen/tiny")
    assert resolve("qwen/tiny", "cache") == str(tmp_path / "qwen/tiny")
    assert not is_on_hub("qwen/tiny.gguf")
    assert not is_on_hub("embedded")


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    "change",
    [
        write(WEIGHTS, safetensors(b"\1\2\3\5")),
        write("more.safetensors", safetensors()),
        write("config.json", b"{}"),
        write("tokenizer.json", b"[]"),
        write("tokenizer.model", b"x"),
        write("merges.txt", b"a b"),
        write("generation_config.json", b"{}"),
        write("tokenizer_config.json", b'{"chat_template": "b"}'),
        write("chat_template.jinja", b"b"),
        write("modeling_tiny.py", b"pass"),
    ],
)
def test_the_fingerprint_follows_everything_that_changes_answers(
    change: Callable[[Path], object], folder: Path, tmp_path: Path
) -> None:
    before = validate(str(folder), None, str(tmp_path)).fingerprint
    change(folder)
    assert validate(str(folder), None, str(tmp_path)).fingerprint != before


@pytest.mark.parametrize("changed", range(5))
def test_the_fingerprint_follows_every_tensor_of_a_large_file(changed: int, folder: Path, tmp_path: Path) -> None:
    """A finetune that leaves the first, the middle and the last tensor alone is another model all the same."""
    size = 100_000
    spans = {f"w{n}": {"dtype": "U8", "shape": [size], "data_offsets": [n * size, (n + 1) * size]} for n in range(5)}
    header = json.dumps(spans).encode()

    def fingerprint(values: list[int]) -> str:
        data = b"".join(bytes([value]) * size for value in values)
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + data)
        return validate(str(folder), None, str(tmp_path)).fingerprint

    assert fingerprint([int(n == changed) for n in range(5)]) != fingerprint([0] * 5)


def test_the_fingerprint_is_of_content_not_of_place_or_time(folder: Path, tmp_path: Path) -> None:
    before = validate(str(folder), None, str(tmp_path)).fingerprint
    (folder / "README.md").write_text("hello")
    (folder / WEIGHTS).touch()
    moved = folder.rename(tmp_path / "elsewhere")
    assert validate(str(moved), None, str(tmp_path)).fingerprint == before


def test_a_gguf_file_that_is_not_there_or_not_one(tmp_path: Path) -> None:
    assert fault(tmp_path / "no.gguf", tmp_path) == f"models: there is no file {tmp_path}/no.gguf"
    (tmp_path / "folder.gguf").mkdir()
    assert "there is no file" in fault(tmp_path / "folder.gguf", tmp_path)
    for content in (b"", b"GGU", b"<!DOCTYPE html>"):
        (tmp_path / "bad.gguf").write_bytes(content)
        assert fault(tmp_path / "bad.gguf", tmp_path) == f"models: {tmp_path}/bad.gguf is no GGUF file"


def test_a_gguf_file_that_cannot_be_converted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\3\0\0\0")
    failing = tmp_path / "python"
    failing.write_text("#!/bin/sh\necho Traceback >&2; touch $4/half; echo 'ValueError: cut off' >&2; exit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(failing))
    said = fault(tmp_path / "cut.gguf", tmp_path / "cache")
    assert said == f"models: {tmp_path}/cut.gguf cannot be turned into a plain model: ValueError: cut off"
    assert [path.name for path in (tmp_path / "cache/models").iterdir() if path.is_dir()] == []


def test_a_gguf_file_is_converted_once(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF\3\0\0\0")
    copying = tmp_path / "python"
    copying.write_text(f"#!/bin/sh\ncp {folder}/* $4/ && echo x >> {tmp_path}/made\n")
    copying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(copying))
    found = [validate(str(tmp_path / "tiny.gguf"), None, str(tmp_path / "cache")) for _ in range(2)]
    assert found[0] == found[1]
    assert found[0].source == str(tmp_path / "tiny.gguf")
    assert (tmp_path / "made").read_text() == "x\n"
    (tmp_path / "tiny.gguf").write_bytes(b"GGUF\3\0\0\1")
    validate(str(tmp_path / "tiny.gguf"), None, str(tmp_path / "cache"))
    assert (tmp_path / "made").read_text() == "x\nx\n"


def test_the_embedded_model_is_converted_once() -> None:
    first = Path(resolve("embedded", cache_folder()))
    made = (first / WEIGHTS).stat().st_mtime_ns
    assert Path(resolve("embedded", cache_folder())) == first
    assert (first / WEIGHTS).stat().st_mtime_ns == made


def test_an_embedded_file_of_other_content_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", not_installed)
    kept = tmp_path / "embedded" / f"{SMOLLM2.name}-{SMOLLM2.version}" / SMOLLM2.weights
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"GGUF, but another")
    found = hashlib.sha256(b"GGUF, but another").hexdigest()
    assert fault("embedded", tmp_path) == (
        f"models: {kept} is not the embedded model (sha256 {found}); delete it and run again"
    )
