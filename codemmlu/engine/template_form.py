"""The form of a chat template, found by rendering probes: how it takes text, and where an answer stands.

Some templates take a message as a list of parts and leave a plain text out without an error. Some end before the place
of the answer: they have no generation prompt, or the model writes the rest of a header or of a thought itself.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codemmlu.errors import UserError
from codemmlu.mcq import Message

THINK = "<think>"
# Templates that show today's date show this one, so that a prompt is the same tomorrow. It is Llama 3.1's own default.
_DATE = datetime.datetime(2024, 7, 26)
_QUESTION, _ANSWER, _NEXT = "codemmlu-probe-question", "codemmlu-probe-answer", "codemmlu-probe-next"


@dataclass(frozen=True)
class Form:
    """What a chat template does with messages.

    Attributes:
        parts: Whether the content of a message is a list of parts instead of a text.
        drops_turns: Whether the question of an earlier turn is left out.
        before: The end of a rendered prompt that a letter's prompt is without; usually empty.
        after: What stands between a rendered prompt and the answer; usually empty.
        ignores_prompt: Whether the template has no generation prompt, so that free text needs `after` as well.
    """

    parts: bool
    drops_turns: bool
    before: str = ""
    after: str = ""
    ignores_prompt: bool = False


# By the text of the template: an engine has one tokenizer, and tests change templates.
_FORMS: dict[str, Form] = {}


def render(tokenizer: Any, messages: Sequence[Message], free: bool) -> str:
    """Render messages by a tokenizer's chat template, up to the place where the answer begins.

    Args:
        tokenizer: The tokenizer, which has a chat template.
        messages: The chat.
        free: Whether the model writes free text, and so any thought before the answer itself.

    Returns:
        The text.

    Raises:
        UserError: The template leaves the question out.
    """
    form = form_of(tokenizer)
    if form.drops_turns and len(messages) > 1:
        raise UserError(
            f"models: the chat template of {tokenizer.name_or_path} leaves earlier questions of a chat out; use voters "
            "without examples and with one turn, or a model with another template"
        )
    text = _apply(tokenizer, messages, form.parts)
    if free and not form.ignores_prompt:
        return text
    return text.removesuffix(form.before) + form.after


def form_of(tokenizer: Any) -> Form:
    """Return the form of a tokenizer's chat template; a template that drops the question is a UserError."""
    key = str(tokenizer.chat_template)
    if key not in _FORMS:
        _FORMS[key] = _find_form(tokenizer)
    return _FORMS[key]


def _find_form(tokenizer: Any) -> Form:
    question = Message("user", _QUESTION)
    takes = [parts for parts in (False, True) if _QUESTION in _attempt(tokenizer, [question], parts)]
    if not takes:
        _apply(tokenizer, [question], parts=False)  # A template that fails says why.
        raise UserError(
            f"models: the chat template of {tokenizer.name_or_path} leaves the question out, as text and as a list of "
            "parts; give the model a template that shows it (chat_template.jinja in its directory)"
        )
    parts = takes[0]
    chat = [question, Message("assistant", _ANSWER)]
    drops_turns = _QUESTION not in _attempt(tokenizer, [*chat, Message("user", _NEXT)], parts)
    prompt = _apply(tokenizer, [question], parts)
    plain = _apply(tokenizer, [question], parts, prompted=False)
    whole = _attempt(tokenizer, chat, parts, prompted=False)
    before, after = _difference(prompt, whole.partition(_ANSWER)[0] if _ANSWER in whole else prompt)
    return Form(parts, drops_turns, before, after, ignores_prompt=prompt == plain and bool(after))


def _difference(prompt: str, place: str) -> tuple[str, str]:
    """Return the ends by which a rendered prompt and the text before an answer differ; empty where blanks differ."""
    same = next((at for at, pair in enumerate(zip(prompt, place, strict=False)) if pair[0] != pair[1]), None)
    same = min(len(prompt), len(place)) if same is None else same
    before, after = prompt[same:], place[same:]
    # A thought that the template opens with this word is closed, empty, see chat_template.
    if same < prompt.find(_QUESTION) + len(_QUESTION) or prompt.rstrip().endswith(THINK):
        return "", ""
    return (before, after) if before.strip() or after.strip() else ("", "")


def _attempt(tokenizer: Any, messages: Sequence[Message], parts: bool, prompted: bool = True) -> str:
    """Render a probe; empty where the template refuses it."""
    try:
        return _apply(tokenizer, messages, parts, prompted)
    except Exception:  # Templates raise errors of any kind, of their own and of jinja.
        return ""


def _apply(tokenizer: Any, messages: Sequence[Message], parts: bool, prompted: bool = True) -> str:
    chat = [
        {"role": message.role, "content": [{"type": "text", "text": message.content}] if parts else message.content}
        for message in messages
    ]
    dated = {"strftime_now": _DATE.strftime} if "strftime_now" in str(tokenizer.chat_template) else {}
    return str(tokenizer.apply_chat_template(chat, add_generation_prompt=prompted, tokenize=False, **dated))
