"""The values of fields as text."""

from typing import Any


class RejectedRow(Exception):
    """The reason why a record cannot be asked, written `kind` or `kind: details`; the notes count kinds."""


def plain(value: object) -> str:
    """Return the value of a field as text, with true and false as JSON writes them."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def is_blank(value: object) -> bool:
    """Return whether a field holds nothing but blanks, or nothing at all."""
    return not value if isinstance(value, list | tuple | dict) else not plain(value).strip()


def prose(value: Any, name: str) -> str:
    """Return the text of a question or of its context.

    Besides text, this takes chat messages, whose contents are joined, and an object with a `stem` or `text`.

    Args:
        value: The field.
        name: The name of the field, for the reason.

    Raises:
        RejectedRow: The field is a list or an object of another kind.
    """
    if isinstance(value, dict):
        inner = value.get("stem", value.get("text", value.get("content")))
        if isinstance(inner, str):
            return inner
    if isinstance(value, list | tuple) and value:
        if all(isinstance(item, dict) and isinstance(item.get("content"), str) for item in value):
            if any(item.get("role") == "assistant" for item in value):
                raise RejectedRow(f"{name} is a chat in which a model has answered already")
            return "\n\n".join(item["content"] for item in value)
        if len(value) == 1 and isinstance(value[0], str):
            return value[0]
    if isinstance(value, list | tuple | dict | set):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise RejectedRow(f"{name} is {kind} and not text")
    return plain(value)
