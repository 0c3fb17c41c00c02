"""The methods `verify` and `verify-rank`: the model checks its own answers with TRUE or FALSE."""

import asyncio

import numpy as np

from codemmlu.engine.protocol import Engine
from codemmlu.inference.methods.base import Method, MethodInput, MethodResult, check, read, result, shown_examples, turn
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import check_wording, choice_probabilities, p_true, pick, ranked, verified
from codemmlu.schema import Reading, Turn, letters

_WORDING = check_wording("\0question\0", "\0choice\0")


async def verify(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Answer, check the answer, and answer again among the rest if the check says FALSE.

    TRUE, or only one choice left, ends the conversation. This is the agent of the reference project.

    Returns:
        The answer, with the turns in order: `answer`, `check`, `answer`, ...
    """
    assert engine is not None
    question = inputs.question
    threshold = inputs.threshold if spec.option("threshold") == "fit" else spec.option("threshold")
    assert threshold is not None
    shown = shown_examples(engine, spec, inputs)
    left = list(range(len(question.choices)))
    readings: list[Reading] = []
    checks: list[Reading] = []
    turns: list[Turn] = []
    while True:
        readings.append(await read(engine, spec, inputs, left, shown))
        chosen = int(np.argmax(choice_probabilities(readings[-1:], size=len(question.choices))))
        turns.append(turn("answer", chosen))
        if len(left) == 1:
            break
        checks.append(await check(engine, spec, question, chosen))
        turns.append(turn("check", chosen, p_true(checks[-1])))
        if p_true(checks[-1]) >= threshold:
            break
        left.remove(chosen)
    return result(letters(26)[chosen], readings, shown, turns, checks)


async def verify_rank(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Check every choice by itself; the answer maximises P(answer) x P(TRUE)."""
    assert engine is not None
    question = inputs.question
    shown = shown_examples(engine, spec, inputs)
    everything = range(len(question.choices))
    reading, *checks = await asyncio.gather(
        read(engine, spec, inputs, list(everything), shown),
        *(check(engine, spec, question, choice) for choice in everything),
    )
    turns = [turn("check", choice, p_true(check)) for choice, check in zip(everything, checks, strict=True)]
    return result(pick(ranked(reading, turns)), [reading], shown, turns, checks)


VERIFY = Method(
    verify,
    lambda answer, size, prior: verified(answer.readings, answer.turns),
    wording=_WORDING,
    reads_letters=True,
    checks=True,
)
VERIFY_RANK = Method(
    verify_rank,
    lambda answer, size, prior: ranked(answer.readings[0], answer.turns),
    wording=_WORDING,
    reads_letters=True,
    checks=True,
)
