"""Chat templates: a Prompt becomes text and tokens by the model's own chat template and tokenizer.

Everything in a question is encoded as text: `<|im_end|>` in the code of a question does not end a turn.
"""

from collections.abc import Container, Sequence
from typing import Any

from codemmlu.engine import model_source, template_form
from codemmlu.mcq import Message, Prompt

THINK, THOUGHT = template_form.THINK, "</think>"
# Private-use characters, one for each word of a question that the tokenizer would take for a control token.
_PLACEHOLDERS = range(0xF0000, 0xF1000)


def encode(tokenizer: Any, prompt: Prompt, free: bool = False) -> tuple[str, list[int]]:
    """Render a prompt as the text and the tokens that the model is given.

    Args:
        tokenizer: The model's tokenizer; that of a base model has no chat template, so its text is plain.
        prompt: The prompt.
        free: Whether the model writes free text. Otherwise a letter or a word is read right after the prompt, where the
            answer would stand: a thought that the template opens for the model (R1, QwQ) is closed, empty.

    Returns:
        The text, and its tokens.
    """
    user_text = "".join(message.content for message in prompt.messages if message.role == "user")
    control_words = sorted((word for word in _control_words(tokenizer) if word in user_text), key=len, reverse=True)
    if not control_words:
        text = _text(tokenizer, prompt.messages, prompt.prefill, free)
        return text, list(tokenizer.encode(text, **_special(tokenizer)))
    words = {chr(character): word for character, word in zip(_PLACEHOLDERS, control_words, strict=False)}
    text = _text(tokenizer, [_with_placeholders(message, words) for message in prompt.messages], prompt.prefill, free)
    tokens: list[int] = []
    special = _special(tokenizer)
    for piece in _pieces(text, words):
        if piece in words:
            # A control word that is encoded in two parts is ordinary text.
            for part in (words[piece][:1], words[piece][1:]):
                tokens += tokenizer.encode(part, add_special_tokens=False)
        else:
            tokens += tokenizer.encode(piece, **special)
            special = {"add_special_tokens": False}
    for placeholder, word in words.items():
        text = text.replace(placeholder, word)
    return text, tokens


def opens_thought(tokenizer: Any, prompt: Prompt) -> bool:
    """Return whether a model's free text begins inside a thought that the chat template opens."""
    return _text(tokenizer, prompt.messages, "", free=True).rstrip().endswith(THINK)


def letter_token(tokenizer: Any, text: str, tokens: list[int], written: str) -> int | None:
    """Return the token of a letter, perhaps after a space, after a prompt; None if it is not one token."""
    added = _added_tokens(tokenizer, text, tokens, written)
    return added[0] if added and len(added) == 1 else None


def first_token(tokenizer: Any, text: str, tokens: list[int], written: str) -> int | None:
    """Return the first token of a word after a prompt; None if the word changes the prompt's last token."""
    added = _added_tokens(tokenizer, text, tokens, written)
    return added[0] if added else None


def complete(tokenizer: Any, model: str, revision: str | None) -> None:
    """Give a tokenizer the chat template that its model keeps in `chat_template.json`.

    Models that also see images do so. transformers reads this file only for their processors.
    """
    if not tokenizer.chat_template:
        tokenizer.chat_template = model_source.chat_template(model, revision)


def _text(tokenizer: Any, messages: Sequence[Message], prefill: str, free: bool) -> str:
    """Render messages by the chat template, or as plain text where the tokenizer has none."""
    if not tokenizer.chat_template:
        return "\n\n".join(part for part in (*(message.content for message in messages), prefill) if part)
    text = template_form.render(tokenizer, messages, free)
    if not free and text.rstrip().endswith(THINK):
        text = f"{text.rstrip()}\n\n{THOUGHT}\n\n"
    return text + prefill


def _special(tokenizer: Any) -> dict[str, bool]:
    # A chat template writes the special tokens itself.
    return {"add_special_tokens": not tokenizer.chat_template}


def _added_tokens(tokenizer: Any, text: str, tokens: list[int], written: str) -> list[int] | None:
    """Return the tokens that `written` adds to a prompt; None where it changes the tokens of the prompt."""
    longer = list(tokenizer.encode(text + written, **_special(tokenizer)))
    if longer[: len(tokens)] == tokens:
        return longer[len(tokens) :]
    # Control words of the question are tokens when the whole text is encoded, but not in the prompt, so only the text
    # after them is compared. It begins with the last control word, which is the template's, because some tokenizers put
    # a blank before the beginning of a text.
    words = [(text.rfind(word), len(word)) for word in _control_words(tokenizer) if word in text]
    start, size = max(words, default=(0, 0))
    for tail in (text[start:], text[start + size :]):
        own = list(tokenizer.encode(tail, add_special_tokens=False))
        longer = list(tokenizer.encode(tail + written, add_special_tokens=False))
        if tokens[len(tokens) - len(own) :] == own and longer[: len(own)] == own:
            return longer[len(own) :]
    return None


def _control_words(tokenizer: Any) -> tuple[str, ...]:
    """Return the words that a tokenizer takes for one token wherever they occur; the tokenizer keeps them."""
    words: tuple[str, ...] | None = getattr(tokenizer, "codemmlu_control_words", None)
    if words is None:
        added = getattr(tokenizer, "added_tokens_decoder", {})
        words = tuple(str(token) for token in added.values() if len(str(token)) > 1 and str(token).strip())
        tokenizer.codemmlu_control_words = words
    return words


def _with_placeholders(message: Message, words: dict[str, str]) -> Message:
    """Replace the control words in a user's message; the template may need those in the model's messages."""
    if message.role != "user":
        return message
    content = message.content
    for placeholder, word in words.items():  # The longest word comes first, because it may contain a shorter one.
        content = content.replace(word, placeholder)
    return Message(message.role, content)


def _pieces(text: str, placeholders: Container[str]) -> list[str]:
    """Cut a text at its placeholders, each of which becomes a piece."""
    pieces = [""]
    for character in text:
        if character in placeholders:
            pieces += [character, ""]
        else:
            pieces[-1] += character
    return [piece for piece in pieces if piece]
