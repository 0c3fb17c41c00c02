"""The loader of recipes: it reads a YAML file and `key.path=value` overrides, and reports all mistakes at once."""

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from codemmlu.errors import UserError
from codemmlu.recipe.data import QuestionSettings
from codemmlu.recipe.recipe import Recipe
from codemmlu.recipe.voters import METHODS
from codemmlu.recipe.yaml_text import parse, read_text


def load(path: str, overrides: list[str]) -> Recipe:
    """Read a recipe and its overrides.

    Args:
        path: The YAML file.
        overrides: Overrides such as `questions.limit=100`; a list of names for `voters` chooses among the voters.

    Returns:
        The validated recipe.

    Raises:
        UserError: The recipe has mistakes: one line names all of them.
    """
    values = _read(path)
    chosen = None
    for override in overrides:
        keys, value = _parse(override)
        if keys == ["voters"] and isinstance(value, list):
            chosen = value
        else:
            _set(values, keys, value, override)
    if chosen is not None:
        values["voters"] = _choose(values.get("voters") or {}, chosen)
    try:
        json.dumps(values, ensure_ascii=False, default=str).encode()
        return Recipe.model_validate(values)
    except UnicodeEncodeError as error:
        odd = error.object[error.start : error.start + 1]
        raise UserError(f"{path}: {odd!r} is half a character (a lone surrogate), which no file can hold") from None
    except ValidationError as error:
        raise UserError(f"{path}: {'; '.join(_faults(error))}") from None
    except ValueError as error:  # An integer of thousands of digits.
        raise UserError(f"{path}: {error}") from None


def load_questions(source: str, overrides: list[str]) -> QuestionSettings:
    """Return the settings of a source of questions, without a recipe.

    Args:
        source: The value of `questions.source`.
        overrides: Overrides of `questions`, such as `questions.answers=text`.

    Returns:
        The validated settings.

    Raises:
        UserError: An override has a mistake, or is about something else than the questions.
    """
    values: dict[str, Any] = {"questions": {"source": source}}
    for override in overrides:
        keys, value = _parse(override)
        if keys[0] != "questions" or len(keys) == 1:
            raise UserError(f"{override!r}: only questions.key=value can be set here")
        _set(values, keys, value, override)
    try:
        return QuestionSettings.model_validate(values["questions"])
    except ValidationError as error:
        faults = "; ".join(f"questions.{fault}" for fault in _faults(error))
        raise UserError(faults) from None


_MOST_PARTS = 32  # names may have dots; the time to find one grows with the square of the parts
_QUOTE = "put it in quotes, on the command line in two pairs: key='\"value\"'"


def _read(path: str) -> dict[str, object]:
    try:
        values = parse(read_text(path))
    except OSError as error:
        raise UserError(f"{path}: the recipe cannot be read ({error.strerror}); see recipes/ for examples") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: bytes that are not UTF-8, a date such as 2024-13-45.
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: a recipe is a mapping with the keys {', '.join(Recipe.model_fields)}")
    return values


def _parse(override: str) -> tuple[list[str], Any]:
    path, equals, text = override.partition("=")
    if not equals or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", path):
        raise UserError(f"{override!r}: an override is written key.path=value, for example questions.limit=100")
    if path.count(".") >= _MOST_PARTS:
        raise UserError(f"{path[:40]!r} and so on: no key of a recipe has more than {_MOST_PARTS} parts")
    try:
        value = parse(text) if text.strip() else text
    except (yaml.YAMLError, ValueError) as error:
        twice = error.problem if isinstance(error, yaml.constructor.ConstructorError) else None
        raise UserError(f"{override!r}: {twice or 'the value is not YAML; quote it'}") from None
    if isinstance(value, str) and re.search(r"\s#", text) and text.lstrip()[0] not in "'\"":
        raise UserError(f"{override!r}: to YAML a comment begins at ` #`; {_QUOTE}")
    return path.split("."), value


def _set(values: dict[str, object], keys: list[str], value: Any, override: str) -> None:
    key, rest = _first_key(values, keys)
    while rest:
        inner = values.setdefault(key, {})
        if inner is None:
            inner = values[key] = {}
        if not isinstance(inner, dict):
            raise UserError(f"{override!r}: {key} is a value, it has no keys")
        values = inner
        key, rest = _first_key(values, rest)
    values[key] = value


def _first_key(values: Mapping[str, object], keys: list[str]) -> tuple[str, list[str]]:
    """Return the first key of a path and the rest; an existing name with dots (`qwen2.5`) is one key."""
    for width in range(len(keys), 1, -1):
        if ".".join(keys[:width]) in values:
            return ".".join(keys[:width]), keys[width:]
    return keys[0], keys[1:]


def _choose(voters: Any, chosen: list[Any]) -> Any:
    if not isinstance(voters, dict):
        return voters  # Validation reports the mistake.
    names = [str(name) for name in chosen]
    if unknown := [name for name in names if name not in voters]:
        known = ", ".join(map(str, voters)) or "none"
        raise UserError(f"the recipe has no {', '.join(unknown)}; it has {known}", key="voters")
    return {name: voters[name] for name in names}


# What pydantic adds to a location for each type that a value may have: these parts are no keys of the recipe.
_BRANCH = re.compile(r"constrained-.+|literal\[.+|(?:tuple|list|dict)\[.+|int|float|str|bool")


def _faults(error: ValidationError) -> list[str]:
    """Return one line for each mistaken key; a value that fits none of several types is one mistake."""
    by_key: dict[str, list[Any]] = {}
    for details in error.errors():
        by_key.setdefault(_key_path(list(details["loc"])), []).append(details)
    return [_fault(key, errors) for key, errors in by_key.items()]


def _key_path(location: list[Any]) -> str:
    """Return the key path in the recipe of a location in a pydantic error."""
    if location[:1] == ["voters"] and location[2:3] and location[2] in METHODS:
        del location[2]  # The kind of the voter is no key of the recipe.
    branch = next((at for at, part in enumerate(location) if at > 1 and _BRANCH.fullmatch(str(part))), len(location))
    return ".".join(str(part) for part in location[:branch] if part != "[key]")


def _fault(key: str, errors: list[Any]) -> str:
    """Return the line for all pydantic errors at one key path."""
    error = errors[0]
    messages = [details["msg"].removeprefix("Value error, ").partition(", unable to parse")[0] for details in errors]
    messages = list(dict.fromkeys(message.replace("a valid tuple", "a list") for message in messages))
    message = ", or ".join([messages[0], *(more.removeprefix("Input should be ") for more in messages[1:])])
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such key"
    if error["type"] == "missing":
        return f"{key}: is missing"
    if error["type"] == "union_tag_invalid":
        return f"{key}.method: there is no {error['ctx']['tag']!r}; methods: {', '.join(METHODS)}"
    if error["type"] == "string_type" and isinstance(error["input"], bool | int | float):
        return f"{key}: YAML reads {error['input']} there, which is no text; {_QUOTE}"
    shown = "" if error["type"] == "value_error" else f" (it is {str(error['input'])[:80]!r})"
    return f"{key}: {message}{shown}" if key else message
