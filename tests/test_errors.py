"""Errors: a user's mistake carries the recipe key beside the text."""

import pickle

from codemmlu.errors import UserError


def test_a_mistake_is_shown_after_its_key() -> None:
    assert str(UserError("there is none", key="examples.index")) == "examples.index: there is none"
    assert str(UserError("Ray could not start")) == "Ray could not start"


def test_a_mistake_keeps_its_key_between_processes() -> None:
    sent = pickle.loads(pickle.dumps(UserError("out: is a word here", key="models")))
    assert (sent.message, sent.key, str(sent)) == ("out: is a word here", "models", "models: out: is a word here")
