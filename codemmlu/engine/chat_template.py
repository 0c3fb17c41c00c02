"""A Prompt through a model's own chat template and tokenizer: the text and tokens the model is given.

What a question has in it is text, whatever it looks like: `<|im_end|>` in somebody's code does not end a turn.
"""

from collections.abc import Sequence
from typing import Any

from codemmlu.engine import model_source
from codemmlu.mcq import Message, Prompt

THINK, THOUGHT = "<think>", "</think>"
# Characters of no script, one for each word of a question that the tokenizer would take for a control token.
_PLACEHOLDERS = range(0xF0000, 0xF1000)


def encode(tokenizer: Any, prompt: Prompt, free: bool = False) -> tuple[str, list[int]]:
    """Text and tokens. A base model, whose tokenizer has no chat template, gets the words as plain text.

    free: the model goes on as it likes. Else a letter or a word of it is read, and where its template opens a thought
    for it (R1, QwQ) that is closed before, empty.
    """
    said = "".join(message.content for message in prompt.messages if message.role == "user")
    odd = [word for word in _control_words(tokenizer) if word in said]
    if not odd:
        text = _text(tokenizer, prompt.messages, prompt.prefill, free)
        return text, list(tokenizer.encode(text, **_special(tokenizer)))
    stands = {chr(place): word for place, word in zip(_PLACEHOLDERS, sorted(odd, key=len, reverse=True), strict=False)}
    text = _text(tokenizer, [_replaced(message, stands) for message in prompt.messages], prompt.prefill, free)
    tokens: list[int] = []
    special = _special(tokenizer)
    for piece in _pieces(text, stands):
        if piece in stands:
            for part in (stands[piece][:1], stands[piece][1:]):
                tokens += tokenizer.encode(part, add_special_tokens=False)
        else:
            tokens += tokenizer.encode(piece, **special)
            special = {"add_special_tokens": False}
    for placeholder, word in stands.items():
        text = text.replace(placeholder, word)
    return text, tokens


def opens_thought(tokenizer: Any, prompt: Prompt) -> bool:
    """Whether a model's free text goes on inside a thought that its template has opened."""
    return _text(tokenizer, prompt.messages, "", free=True).rstrip().endswith(THINK)


def letter_token(tokenizer: Any, text: str, tokens: list[int], written: str) -> int | None:
    """The one token that `written` (a letter, perhaps after a space) is right after a prompt; None if it is not one."""
    more = _more(tokenizer, text, tokens, written)
    return more[0] if more and len(more) == 1 else None


def first_token(tokenizer: Any, text: str, tokens: list[int], written: str) -> int | None:
    """The first token of a word after a prompt; None if the word changes the prompt's own last token."""
    more = _more(tokenizer, text, tokens, written)
    return more[0] if more else None


def complete(tokenizer: Any, model: str, revision: str | None) -> None:
    """Gives a tokenizer the chat template that a model keeps in a file of its own, as those that also see images do:
    transformers reads that for their processors alone."""
    if not tokenizer.chat_template:
        tokenizer.chat_template = model_source.chat_template(model, revision)


def _text(tokenizer: Any, messages: Sequence[Message], prefill: str, free: bool) -> str:
    if not tokenizer.chat_template:
        return "\n\n".join(part for part in (*(message.content for message in messages), prefill) if part)
    chat = [{"role": message.role, "content": message.content} for message in messages]
    text: str = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    if not free and text.rstrip().endswith(THINK):
        text = f"{text.rstrip()}\n\n{THOUGHT}\n\n"
    return text + prefill


def _special(tokenizer: Any) -> dict[str, bool]:
    # A chat template writes them itself.
    return {"add_special_tokens": not tokenizer.chat_template}


def _more(tokenizer: Any, text: str, tokens: list[int], written: str) -> list[int] | None:
    """The tokens that `written` adds to a prompt; None where it changes those before."""
    longer = list(tokenizer.encode(text + written, **_special(tokenizer)))
    if longer[: len(tokens)] == tokens:
        return longer[len(tokens) :]
    # Control words of the question are tokens in the whole text, and none in the prompt: only what follows them counts.
    # It begins with the last one, which is the template's: some tokenizers put a blank before what begins a text.
    words = [(text.rfind(word), len(word)) for word in _control_words(tokenizer) if word in text]
    at, size = max(words, default=(0, 0))
    for tail in (text[at:], text[at + size :]):
        own = list(tokenizer.encode(tail, add_special_tokens=False))
        longer = list(tokenizer.encode(tail + written, add_special_tokens=False))
        if tokens[len(tokens) - len(own) :] == own and longer[: len(own)] == own:
            return longer[len(own) :]
    return None


def _control_words(tokenizer: Any) -> tuple[str, ...]:
    """What a tokenizer takes for one token wherever it stands."""
    known: tuple[str, ...] | None = getattr(tokenizer, "codemmlu_control_words", None)
    if known is None:
        added = getattr(tokenizer, "added_tokens_decoder", {})
        known = tuple(str(token) for token in added.values() if len(str(token)) > 1 and str(token).strip())
        tokenizer.codemmlu_control_words = known
    return known


def _replaced(message: Message, stands: dict[str, str]) -> Message:
    """A person's message; what a model said itself its template may have to see."""
    if message.role != "user":
        return message
    content = message.content
    for placeholder, word in stands.items():  # the longest first: one may stand in another
        content = content.replace(word, placeholder)
    return Message(message.role, content)


def _pieces(text: str, stands: dict[str, str]) -> list[str]:
    """A text cut at its placeholders, which are pieces of their own."""
    pieces = [""]
    for character in text:
        if character in stands:
            pieces += [character, ""]
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece]
