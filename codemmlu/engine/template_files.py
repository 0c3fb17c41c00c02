"""Chat templates in model files, rendered without the tokenizer: whether prompts have changed since keys exist.

An answer's key names the model's files, not the prompt. A letter is now read where the chat template itself puts an
answer (see template_form), so that prompts of some models end otherwise than they did with the same files. The keys of
these models say so, and all others stay.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from codemmlu.engine import gguf_header, model_source, template_form
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import UserError

_CONFIG, _SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
_IN_GGUF = "tokenizer.chat_template"
_TEMPLATE, _PROCESSOR = "chat_template.jinja", "chat_template.json"
# The tags by which templates mark the model's own text for training, which is rendered as it is.
_MARKS = re.compile(r"(\{%-?\s*)(end)?generation(\s*-?%\})")
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class FileTemplate:
    """A chat template, with the part of a tokenizer's interface that `template_form` uses.

    Attributes:
        name_or_path: The name of the model.
        chat_template: The text of the template.
        tokens: The special tokens, by the names that the template has for them.
    """

    name_or_path: str
    chat_template: str
    tokens: Mapping[str, str] = field(default_factory=dict)

    def apply_chat_template(self, chat: Sequence[Mapping[str, Any]], **values: Any) -> str:
        """Render a chat; `values`: what the template may use, such as add_generation_prompt."""
        from jinja2.ext import (
            loopcontrols,
        )  # jinja2 takes a fifth of a second to load, and most commands render nothing.
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _fail
        text = _MARKS.sub(lambda tag: f"{tag[1]}{'endif' if tag[2] else 'if true'}{tag[3]}", self.chat_template)
        return environment.from_string(text).render(messages=chat, tools=None, documents=None, **self.tokens, **values)


def changed_prompts(model: model_source.Model) -> tuple[str, ...]:
    """Return what has changed of a model's prompts since keys exist, as parts of a digest; empty for most models."""
    return _changed(model.source, model.revision, model.fingerprint, model.weight_bytes is not None)


@cache  # By the content of the model: a run asks for each of its models several times.
def _changed(source: str, revision: str | None, _: str, reached: bool) -> tuple[str, ...]:
    if (
        is_scripted(source) or source == model_source.EMBEDDED
    ):  # The embedded model's answers stand at the end of its prompts.
        return ()
    try:
        template = _read(source, revision, reached)
        form = template_form.form_of(template) if template else None
    except Exception:  # A template of any fault is refused by the engine, which has the tokenizer.
        return ()
    return ("the place of the answer",) if form and (form.parts or form.before or form.after) else ()


def _read(source: str, revision: str | None, reached: bool) -> FileTemplate | None:
    """Return the chat template that transformers would take from a model's files; None without one."""
    path = Path(source).expanduser()
    if path.suffix == ".gguf":  # Read as it is: a dry run converts no model.
        text = gguf_header.text_of(path, _IN_GGUF)
        return FileTemplate(source, text) if text else None
    folder = None if model_source.is_on_hub(source) else path

    def text_of(name: str) -> str | None:
        path = folder / name if folder else model_source.hub_file(source, name, revision, reached)
        return path.read_text(encoding="utf-8") if path and path.is_file() else None

    special = {**json.loads(text_of(_SPECIAL) or "{}"), **json.loads(text_of(_CONFIG) or "{}")}
    named = special.get("chat_template")
    if isinstance(named, list):  # Several, for example one for tools.
        named = {entry["name"]: entry["template"] for entry in named}.get("default")
    template = text_of(_TEMPLATE) or named or json.loads(text_of(_PROCESSOR) or "{}").get("chat_template")
    if not isinstance(template, str):
        return None
    given = {name: special.get(name) or "" for name in _TOKENS}
    tokens = {
        name: str(token.get("content", "")) if isinstance(token, dict) else str(token) for name, token in given.items()
    }
    return FileTemplate(source, template, tokens)


def _to_json(value: Any, **options: Any) -> str:
    return json.dumps(value, **{"ensure_ascii": False, **options})


def _fail(message: str) -> None:
    raise UserError(message)
