"""The method `sample` (self-consistency): several free replies vote (Wang et al. 2022, arXiv:2203.11171)."""

import asyncio
from dataclasses import replace
from typing import Any

from codemmlu.engine.protocol import Engine, Sampling
from codemmlu.inference.methods.base import (
    Method,
    MethodInput,
    MethodResult,
    finite,
    nearest_last,
    read,
    result,
    shown_examples,
    with_tokens,
)
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Prompt, choice_probabilities, pick, render, render_after, shares
from codemmlu.mcq.reply_parser import read_reply
from codemmlu.schema import Question, Reading, Turn


async def sample(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Generate n free replies in one request (self-consistency), and take one reading, which breaks ties."""
    assert engine is not None
    question = inputs.question
    shown = shown_examples(engine, spec, inputs)
    free = replace(render(question, spec.template, examples=nearest_last(shown)), prefill="", before_letter="")
    settings: dict[str, Any] = {name: value for name, value in spec.settings if name != "retry"}
    # The reading comes first: the prompt that it leaves in the prefix cache serves every reply.
    reading = await read(engine, spec, inputs, range(len(question.choices)), shown)
    generation = await engine.generate(free, Sampling(**settings), spec.adapter)
    replies = [(text, read_reply(text, question.choices)) for text in generation.texts]
    turns = [Turn("reply", reply.letter, None, text, reply.found) for text, reply in replies]
    retries: list[Reading] = []
    if spec.option("retry"):
        retried = await asyncio.gather(*(_retry(engine, spec, free, question, turn) for turn in turns))
        turns = [turn for turn, _ in retried]
        retries = [retry for _, retry in retried if retry]
    letter = pick(shares(reading, turns)) if any(turn.letter for turn in turns) else None
    return with_tokens(result(letter, [reading], shown, turns, retries), generation)


async def _retry(
    engine: Engine, spec: InferenceSpec, free: Prompt, question: Question, turn: Turn
) -> tuple[Turn, Reading | None]:
    """Read the letters after a reply that names none, unless the engine has no room left for that."""
    after = render_after(free, turn.text, question, spec.template)
    if turn.letter or not engine.fits(engine.tokens(after)):
        return turn, None
    reading = finite(await engine.score(after, spec.adapter))
    return replace(turn, letter=pick(choice_probabilities([reading])), found="retry"), reading


SAMPLE = Method(sample, lambda answer, size, prior: shares(answer.readings[0], answer.turns), writes=True, draws=True)
