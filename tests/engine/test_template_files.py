"""Keys say where the end of a model's prompts has changed, and only there."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from codemmlu.engine import template_form
from codemmlu.engine.model_source import Model
from codemmlu.engine.placement.placement import answer_settings
from codemmlu.engine.template_files import changed_prompts
from codemmlu.inference.voters import weights_digest
from codemmlu.mcq import render
from codemmlu.recipe import ModelSettings, digest
from tests.engine.test_chat_template import CHATML, ENDS
from tests.support.gguf_files import write_gguf
from tests.support.rows import question
from tests.support.tiny_model import tokenizer

MESSAGES = render(question("t1"), "codemmlu").messages


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer()


def model_of(folder: Path, **files: str) -> Model:
    """A model directory with these files; `__` in a name is a dot."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return Model(str(folder), None, str(folder), 1, {})


@pytest.mark.parametrize("name", ENDS)
def test_a_prompt_that_ends_otherwise_has_another_key(name: str, words: Any, tmp_path: Path) -> None:
    template, _ = ENDS[name]
    changed = copy.copy(words)
    changed.chat_template = template
    chat = [{"role": message.role, "content": message.content} for message in MESSAGES]
    before = changed.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    same = template_form.render(changed, MESSAGES, free=False) == before
    assert same == (name in ("as it should be", "no header at all"))
    model, settings = model_of(tmp_path / "m", chat_template__jinja=template), ModelSettings(source="m")
    earlier = digest(model.fingerprint, answer_settings(settings))
    assert (weights_digest(model, settings) == earlier) == same


WITH_BOS = "{{ bos_token + 'x' }}{% generation %}" + CHATML + "{% endgeneration %}{{ [] | tojson }}"
KEPT = {
    "in a file of its own": {"chat_template__jinja": CHATML, "tokenizer_config__json": "{}"},
    "in the configuration": {"tokenizer_config__json": json.dumps({"chat_template": CHATML})},
    "one of several": {
        "tokenizer_config__json": json.dumps(
            {"chat_template": [{"name": "tool", "template": ""}, {"name": "default", "template": CHATML}]}
        )
    },
    "of a processor": {"chat_template__json": json.dumps({"chat_template": CHATML})},
    "with tokens": {
        "chat_template__jinja": WITH_BOS,
        "tokenizer_config__json": json.dumps({"bos_token": {"content": "<s>"}}),
    },
}


@pytest.mark.parametrize("place", KEPT)
def test_a_template_is_found_wherever_it_is_kept(place: str, tmp_path: Path) -> None:
    """CHATML has no generation prompt, and so its prompts have changed."""
    assert changed_prompts(model_of(tmp_path / "m", **KEPT[place])) == ("the place of the answer",)


def test_a_gguf_file_is_read_and_not_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dry run makes keys; a conversion takes minutes and fills a disk."""
    monkeypatch.setattr("codemmlu.engine.gguf.convert", lambda *_, **__: pytest.fail("converted"))
    file = str(write_gguf(tmp_path / "m.gguf", {"tokenizer.chat_template": CHATML}))
    assert changed_prompts(Model(file, None, file, 1, {})) == ("the place of the answer",)
    plain = str(write_gguf(tmp_path / "plain.gguf"))
    assert changed_prompts(Model(plain, None, plain, 1, {})) == ()


NONE: dict[str, dict[str, str]] = {
    "no template": {"tokenizer_config__json": "{}"},
    "no files": {},
    "a broken file": {"tokenizer_config__json": "{"},
    "a broken template": {"chat_template__jinja": "{% for"},
    "a template that fails": {"chat_template__jinja": "{{ raise_exception('no') }}"},
}


@pytest.mark.parametrize("name", NONE)
def test_without_a_template_keys_stay(name: str, tmp_path: Path) -> None:
    assert changed_prompts(model_of(tmp_path / "m", **NONE[name])) == ()


def test_keys_of_the_embedded_model_and_of_scripts_stay() -> None:
    for source in ("embedded", "scripted", "/not/there"):
        assert changed_prompts(Model(source, None, source, 1, {})) == ()


def test_offline_only_the_cache_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub's client would wait for half a minute, for each of the files."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_, **__: pytest.fail("asked the Hub"))
    assert changed_prompts(Model("owner/offline", "0" * 40, "owner/offline", None, {})) == ()
