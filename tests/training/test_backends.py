"""Which backend is taken, and what is said where one cannot run."""

import pytest

from codemmlu.errors import UserError
from codemmlu.training.backends import choose


def test_auto_takes_what_runs_and_says_why() -> None:
    assert choose("auto", 1, on_gpu=True, has=lambda _: True)[0] == "unsloth"
    assert choose("auto", 1, on_gpu=False, has=lambda _: True) == (
        "peft",
        "unsloth cannot run here: it needs an NVIDIA GPU",
    )
    assert choose("auto", 4, on_gpu=True, has=lambda _: True) == (
        "peft",
        "unsloth cannot run here: it trains with one worker",
    )
    assert "not installed" in choose("auto", 1, on_gpu=True, has=lambda _: False)[1]


def test_one_that_is_asked_for_is_not_replaced_in_silence() -> None:
    with pytest.raises(UserError, match=r"finetune\.backend: unsloth cannot run here: it needs an NVIDIA GPU"):
        choose("unsloth", 1, on_gpu=False, has=lambda _: True)
    assert choose("peft", 1, on_gpu=True, has=lambda _: True)[0] == "peft"
