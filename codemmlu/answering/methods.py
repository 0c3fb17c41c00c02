"""The methods: how one question is answered. Each is a coroutine, so that many questions are under way at once."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from codemmlu.answering.asks import Ask
from codemmlu.engine.protocol import Engine
from codemmlu.prompts import Prompt, render
from codemmlu.retrieval.library import Neighbours
from codemmlu.retrieval.transfer import Solved
from codemmlu.rows import Neighbour, Question, Reading
from codemmlu.scoring import choice_probabilities, is_finite, pick


@dataclass(frozen=True)
class Case:
    """A question with what was looked up for it.

    neighbours: None for an ask that looks at no example
    transferred: log-probabilities over its choices by what the neighbours say, for the method `retrieve`
    """

    question: Question
    neighbours: Neighbours | None = None
    transferred: npt.NDArray[np.float64] | None = None


# Fields of an Answer: status, letter, readings, retrieved, error.
Told = dict[str, Any]
Method = Callable[[Engine | None, Ask, Case], Awaitable[Told]]


async def direct(engine: Engine | None, ask: Ask, case: Case) -> Told:
    """The model is shown the question, after solved examples if the ask has some, and its letters are read, once."""
    assert engine is not None
    solved = case.neighbours.solved if case.neighbours else ()
    prompt, shown = with_examples(engine, ask, case.question, solved)
    reading = await engine.score(prompt)
    told = _read(reading) | {"retrieved": retrieved(shown)}
    return told | {"generated_tokens": 1}


async def retrieve(engine: Engine | None, ask: Ask, case: Case) -> Told:
    """The neighbours' right and wrong choices say which of this question's is right. No engine is asked."""
    assert case.neighbours is not None
    assert case.transferred is not None
    values = tuple(float(value) for value in case.transferred)
    reading = Reading(tuple(range(len(values))), values, 1.0, prompt_tokens=0, cached_tokens=0)
    return _read(reading) | {"retrieved": retrieved(case.neighbours.solved)}


METHODS: dict[str, Method] = {"direct": direct, "retrieve": retrieve}


def with_examples(
    engine: Engine, ask: Ask, question: Question, solved: Sequence[Solved]
) -> tuple[Prompt, list[Solved]]:
    """The prompt with the nearest examples that its budget and the engine's length hold, and those, nearest first.

    The budget drops examples and never the question: an example that is too long makes room for the next one.
    """
    prompt = render(question, ask.template)
    shown: list[Solved] = []
    alone = engine.tokens(prompt) if solved else 0
    for one in solved:
        if len(shown) == ask.examples:
            break
        nearest_last = [other.example for other in reversed([*shown, one])]
        longer = render(question, ask.template, examples=nearest_last)
        tokens = engine.tokens(longer)
        if tokens - alone <= ask.tokens and engine.fits(tokens):
            prompt, shown = longer, [*shown, one]
    return prompt, shown


def retrieved(solved: Sequence[Solved]) -> tuple[Neighbour, ...]:
    """As they are kept with an answer, nearest first."""
    return tuple(Neighbour(one.example.task_id, one.similarity) for one in solved)


def _read(reading: Reading) -> Told:
    if not is_finite(reading):
        error = "a letter came back without a finite log-probability"
        return {"status": "failed", "letter": None, "readings": (reading,), "error": error}
    letter = pick(choice_probabilities([reading]))
    return {"status": "answered", "letter": letter, "readings": (reading,), "error": None}
