"""Damaged files of an adapter: those of this run are set aside and made anew, those of the user are one line."""

import json
from pathlib import Path

import pytest

from codemmlu.engine import lora
from codemmlu.engine.adapter_store import Manifest, standing
from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir

BROKEN = [b"", b"{", b"[1, 2]", b'{"a": 1}', b"[" * 100_000, b"\xff\xfe", b"null", b"3"]


class Lines(list[str]):
    """What is said."""

    say = list.append


def adapter(folder: Path) -> RunDir:
    """Write a run with the files of an adapter, apart from its weights, and return the run."""
    run = RunDir(str(folder))
    empty: dict[str, object] = {
        "revision": None,
        "memory_gib": None,
        "tokens_per_second": None,
        "settings": {},
        "versions": {},
    }
    texts = ("name", "fingerprint", "base", "base_fingerprint", "examples", "backend", "device")
    numbers = dict.fromkeys(("train_examples", "steps", "best_step"), 1)
    manifest = Manifest.model_validate(dict.fromkeys(texts, "x") | numbers | empty | {"train": [], "tune": []})
    run.write("adapters/tuned/manifest.json", manifest.model_dump_json().encode())
    run.write("adapters/tuned/learnt.json", b'["a", "b"]')
    return run


def test_a_whole_one_stands(tmp_path: Path) -> None:
    lines = Lines()
    assert standing(adapter(tmp_path), "tuned", lines)  # type: ignore[arg-type]
    assert not lines


@pytest.mark.parametrize("name", ["manifest.json", "learnt.json"])
@pytest.mark.parametrize("content", BROKEN)
def test_one_of_this_run_is_set_aside(tmp_path: Path, name: str, content: bytes) -> None:
    run, lines = adapter(tmp_path), Lines()
    run.write(f"adapters/tuned/{name}", content)
    assert standing(run, "tuned", lines) is None  # type: ignore[arg-type]
    assert (tmp_path / f"adapters/tuned/{name}.damaged").read_bytes() == content
    assert f"{name} is damaged (" in lines[0]
    assert "tuned is trained again" in lines[0]


def test_one_without_its_training_questions_is_trained_again(tmp_path: Path) -> None:
    run, lines = adapter(tmp_path), Lines()
    run.remove("adapters/tuned/learnt.json")
    assert standing(run, "tuned", lines) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("content", BROKEN)
def test_one_of_the_user_is_one_line(tmp_path: Path, content: bytes) -> None:
    for name in ("learnt.json", "manifest.json", "adapter_config.json"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    found = lora.Adapter(str(tmp_path), "f", 8, str(tmp_path))
    for use in (lambda: lora.learnt_by(str(tmp_path)), lambda: lora.base_of(found)):
        with pytest.raises(UserError, match=r"\.json is damaged \(.*train the adapter again"):
            use()
    with pytest.raises(UserError, match=r"^k: "):
        lora.validate(str(tmp_path), "k")


def test_content_keys_are_read(tmp_path: Path) -> None:
    (tmp_path / "learnt.json").write_text(json.dumps(["a", "b"]))
    assert lora.learnt_by(str(tmp_path)) == {"a", "b"}
