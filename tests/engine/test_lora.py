"""Adapters: what is none is said in one line before an engine starts, and room is made for what is asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from codemmlu.engine.lora import CONFIG, WEIGHTS, Adapter, engine_arguments, validate
from codemmlu.errors import UserError
from codemmlu.recipe import DirectVoter
from tests.support.rows import QUESTION, spec_of


def written(folder: Path, config: Any, weights: bytes = b"weights") -> str:
    (folder / CONFIG).write_text(config if isinstance(config, str) else json.dumps(config))
    (folder / WEIGHTS).write_bytes(weights)
    return str(folder)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{", "is no JSON"),
        ({"peft_type": "IA3"}, "is a IA3 adapter; a LORA one"),
        ({"peft_type": "LORA"}, "a LORA one with a rank"),
        ({"peft_type": "LORA", "r": 1024}, "has rank 1024; vLLM serves up to 512"),
    ],
)
def test_what_is_no_adapter_is_the_persons_mistake(tmp_path: Path, config: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        validate(written(tmp_path, config), "voters.x.adapter")
    assert str(error.value).startswith("voters.x.adapter: ")


def test_a_directory_without_an_adapter_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no adapter_config\.json; name the directory"):
        validate(str(tmp_path), "voters.x.adapter")


def test_an_adapter_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    path = written(tmp_path, {"peft_type": "LORA", "r": 8})
    first = validate(path, "k")
    assert (first.path, first.rank) == (str(tmp_path), 8)
    assert validate(path, "k") == first
    written(tmp_path, {"peft_type": "LORA", "r": 8}, b"other weights")
    assert validate(path, "k").fingerprint != first.fingerprint


def test_an_adapters_answers_are_its_own() -> None:
    voter = DirectVoter(model="m")
    plain, one, two = (spec_of(voter, "w", None, a) for a in (None, Adapter("a", "f1", 8), Adapter("b", "f2", 8)))
    assert len({ask.key(QUESTION) for ask in (plain, one, two)}) == 3
    moved = spec_of(voter, "w", None, Adapter("elsewhere", "f1", 8))
    assert moved.key(QUESTION) == one.key(QUESTION)
    assert (plain.adapter, one.adapter) == ("", "a")


def test_room_is_made_for_the_largest_adapter_if_any() -> None:
    assert engine_arguments([]) == {}
    arguments = engine_arguments([Adapter("a", "f1", 12), Adapter("b", "f2", 4), Adapter("a", "f1", 12)])
    assert arguments == {"enable_lora": True, "max_loras": 2, "max_lora_rank": 16}
