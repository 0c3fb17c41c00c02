"""The method `retrieve`: the nearest solved examples decide, without an engine."""

from dataclasses import replace

from codemmlu.engine.protocol import Engine
from codemmlu.inference.methods.base import Method, MethodInput, MethodResult, finite, result
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import choice_probabilities, pick
from codemmlu.schema import Reading


async def retrieve(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Choose by the right and wrong choices of the neighbours, without an engine."""
    assert inputs.neighbours is not None
    assert inputs.transferred is not None
    values = tuple(float(value) for value in inputs.transferred)
    reading = finite(Reading(tuple(range(len(values))), values, 1.0, prompt_tokens=0, cached_tokens=0))
    answered = result(pick(choice_probabilities([reading])), [reading], inputs.neighbours.solved)
    return replace(answered, generated_tokens=0)


RETRIEVE = Method(retrieve, transfers=True)
