"""The method `probe`: a model's hidden states at each choice are read (option-boundary probes, arXiv:2601.03914).

The answer keeps the states. What they are worth is learnt on examples: see `inference/learnt_states.py`.
"""

import base64
from dataclasses import replace
from typing import cast

import numpy as np

from codemmlu.engine.hidden_states import END, StatesEngine, TokensDiffer
from codemmlu.engine.protocol import Engine
from codemmlu.inference.methods.base import Method, MethodInput, MethodResult
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import render
from codemmlu.schema import Answer, Turn

READ = "states"


async def probe(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Read the state of each choice; where the choices cannot be found among the tokens, the voter abstains."""
    states_engine = cast(StatesEngine, engine)
    question = inputs.question
    marked = replace(question, choices=tuple(f"{choice}{END}" for choice in question.choices))
    prompt = render(question, spec.template)
    layer, dimensions = spec.option("layer"), spec.option("dimensions")
    try:
        states = await states_engine.states(prompt, render(marked, spec.template), layer, dimensions, spec.adapter)
    except TokensDiffer:
        return MethodResult("abstained")
    text = base64.b64encode(states.tobytes()).decode()
    turns = (Turn(READ, None, None, text, "tool"),)
    return MethodResult("answered", turns=turns, prompt_tokens=states_engine.tokens(prompt))


def states_of(answer: Answer, size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]] | None:
    """Return the states that an answer keeps, shape (size, dimensions); None where it keeps none."""
    if answer.status != "answered" or not answer.turns:
        return None
    flat = np.frombuffer(base64.b64decode(answer.turns[0].text), dtype=np.float16)
    return flat.reshape(size, -1).astype(np.float64)


PROBE = Method(probe)
