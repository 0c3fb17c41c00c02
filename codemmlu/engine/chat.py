"""A Prompt through a model's own chat template and tokenizer: the text and tokens the model is given."""

from typing import Any

from codemmlu.prompts import Prompt


def encode(tokenizer: Any, prompt: Prompt) -> tuple[str, list[int]]:
    """Text and tokens. A base model, whose tokenizer has no chat template, gets the words as plain text."""
    if tokenizer.chat_template:
        chat = [{"role": message.role, "content": message.content} for message in prompt.messages]
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) + prompt.prefill
        return text, list(tokenizer.encode(text, add_special_tokens=False))
    text = "\n\n".join(part for part in (*(m.content for m in prompt.messages), prompt.prefill) if part)
    return text, list(tokenizer.encode(text))


def letter_token(tokenizer: Any, text: str, tokens: list[int], written: str) -> int | None:
    """The one token that `written` (a letter, perhaps after a space) is right after a prompt; None if it is not one."""
    longer = list(tokenizer.encode(text + written, add_special_tokens=not tokenizer.chat_template))
    return longer[-1] if longer[:-1] == tokens else None


def first_token(tokenizer: Any, text: str, tokens: list[int], written: str) -> int | None:
    """The first token of a word after a prompt; None if the word changes the prompt's own last token."""
    longer = list(tokenizer.encode(text + written, add_special_tokens=not tokenizer.chat_template))
    return longer[len(tokens)] if longer[: len(tokens)] == tokens and len(longer) > len(tokens) else None
