"""The method `direct`: the model is shown the question and its letters are read, once."""

from typing import Any

from codemmlu.answering.asks import Ask
from codemmlu.engine.protocol import Engine
from codemmlu.prompts import render
from codemmlu.rows import Question
from codemmlu.scoring import choice_probabilities, is_finite, pick


async def direct(engine: Engine, ask: Ask, question: Question) -> dict[str, Any]:
    """status, letter, readings and error of an Answer."""
    reading = await engine.score(render(question, ask.template))
    if not is_finite(reading):
        error = "a letter came back without a finite log-probability"
        return {"status": "failed", "letter": None, "readings": (reading,), "error": error}
    letter = pick(choice_probabilities([reading]))
    return {"status": "answered", "letter": letter, "readings": (reading,), "error": None}
