"""The method `direct`: the letters after the question are read, in one order of the choices or in several."""

import asyncio
from collections.abc import Sequence

from codemmlu.dataset.references import references_position
from codemmlu.engine.protocol import Engine
from codemmlu.inference.methods.base import Method, MethodInput, MethodResult, read, result, shown_examples
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import choice_probabilities, margin, orders, pick
from codemmlu.retrieval.answer_transfer import RetrievedExample
from codemmlu.schema import Reading


async def direct(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Read the letters after the question, which follows solved examples if the spec has some.

    Further readings show the choices in other orders, unless the choices refer to their own order. All are sent at
    once, so that they are side by side in the engine's queue and share the question's tokens in its prefix cache.

    Returns:
        The answer, with all readings.
    """
    assert engine is not None
    shown = shown_examples(engine, spec, inputs)
    question = inputs.question
    permutations = orders(len(question.choices), spec.option("readings"), question.question)
    if references_position(question.question, question.choices):
        permutations = permutations[:1]
    if spec.early_exit:
        return await _until_sure(engine, spec, inputs, permutations, shown)
    readings = await asyncio.gather(*(read(engine, spec, inputs, order, shown) for order in permutations))
    return result(pick(choice_probabilities(readings)), readings, shown)


async def _until_sure(
    engine: Engine,
    spec: InferenceSpec,
    inputs: MethodInput,
    permutations: Sequence[Sequence[int]],
    shown: Sequence[RetrievedExample],
) -> MethodResult:
    """Read again while the two likeliest choices are close, with the letter prior divided out."""
    assert inputs.log_prior is not None
    readings: list[Reading] = []
    for order in permutations:
        readings.append(await read(engine, spec, inputs, order, shown))
        probabilities = choice_probabilities(readings, inputs.log_prior)
        if margin(probabilities) >= spec.option("margin"):
            break
    return result(pick(probabilities), readings, shown)


DIRECT = Method(direct, reads_letters=True)
