"""The methods: how a question is answered, as coroutines so that many questions are in flight at once."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codemmlu.engine.protocol import Engine, Generation, Sampling
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import (
    Prompt,
    choice_probabilities,
    is_finite,
    margin,
    orders,
    p_true,
    pick,
    ranked,
    render,
    render_after,
    render_check,
    render_thought,
    shares,
)
from codemmlu.mcq.reply_parser import read_reply
from codemmlu.retrieval.answer_transfer import RetrievedExample
from codemmlu.retrieval.retriever import Neighbours
from codemmlu.schema import Neighbour, Question, Reading, Turn, letters


@dataclass(frozen=True)
class MethodInput:
    """A question with what was looked up for it.

    Attributes:
        neighbours: None for a spec without retrieval.
        transferred: Log-probabilities over the choices that the neighbours predict, shape (n_choices,), for the method
            `retrieve`.
        log_prior: Log-probability of each letter, for a spec that stops reading once it is sure.
        threshold: Threshold of the checks, for a spec whose threshold is fitted.
    """

    question: Question
    neighbours: Neighbours | None = None
    transferred: npt.NDArray[np.float64] | None = None
    log_prior: tuple[float, ...] | None = None
    threshold: float | None = None


# Fields of an Answer. A field that a method leaves out stays as it is for a failed row.
MethodResult = dict[str, Any]
Method = Callable[[Engine | None, InferenceSpec, MethodInput], Coroutine[Any, Any, MethodResult]]


class NotFinite(Exception):
    """A letter or word without a finite log-probability; its `reading` is kept with the failed row."""

    def __init__(self, reading: Reading) -> None:
        """Keep the reading."""
        super().__init__("a letter came back without a finite log-probability")
        self.reading = reading


async def direct(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Read the letters after the question, which follows solved examples if the spec has some.

    Further readings show the choices in other orders. All are sent at once, so that they are side by side in the
    engine's queue and share the question's tokens in its prefix cache.

    Returns:
        Fields of an Answer.
    """
    assert engine is not None
    shown = _shown(engine, spec, inputs)
    permutations = orders(len(inputs.question.choices), spec.option("readings"), inputs.question.question)
    if inputs.log_prior is not None:
        return await _until_sure(engine, spec, inputs, permutations, shown)
    readings = await asyncio.gather(*(_read(engine, spec, inputs, order, shown) for order in permutations))
    return _result(pick(choice_probabilities(readings)), readings, shown)


async def _until_sure(
    engine: Engine,
    spec: InferenceSpec,
    inputs: MethodInput,
    permutations: Sequence[Sequence[int]],
    shown: Sequence[RetrievedExample],
) -> MethodResult:
    """Read again while the two likeliest choices are close, with the letter prior divided out."""
    readings: list[Reading] = []
    for order in permutations:
        readings.append(await _read(engine, spec, inputs, order, shown))
        probabilities = choice_probabilities(readings, inputs.log_prior)
        if margin(probabilities) >= spec.option("margin"):
            break
    return _result(pick(probabilities), readings, shown)


async def verify(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Answer, check the answer, and answer again among the rest if the check says FALSE.

    TRUE, or only one choice left, ends the conversation. This is the agent of the reference project.

    Returns:
        Fields of an Answer, with the turns in order: `answer`, `check`, `answer`, ...
    """
    assert engine is not None
    question = inputs.question
    threshold = spec.option("threshold") if inputs.threshold is None else inputs.threshold
    shown = _shown(engine, spec, inputs)
    left = list(range(len(question.choices)))
    readings: list[Reading] = []
    checks: list[Reading] = []
    turns: list[Turn] = []
    while True:
        readings.append(await _read(engine, spec, inputs, left, shown))
        chosen = int(np.argmax(choice_probabilities(readings[-1:], size=len(question.choices))))
        turns.append(_turn("answer", chosen))
        if len(left) == 1:
            break
        checks.append(await _check(engine, spec, question, chosen))
        turns.append(_turn("check", chosen, p_true(checks[-1])))
        if p_true(checks[-1]) >= threshold:
            break
        left.remove(chosen)
    return _result(letters(26)[chosen], readings, shown, turns, checks)


async def verify_rank(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Check every choice by itself; the answer maximises P(answer) x P(TRUE)."""
    assert engine is not None
    question = inputs.question
    shown = _shown(engine, spec, inputs)
    everything = range(len(question.choices))
    reading, *checks = await asyncio.gather(
        _read(engine, spec, inputs, list(everything), shown),
        *(_check(engine, spec, question, choice) for choice in everything),
    )
    turns = [_turn("check", choice, p_true(check)) for choice, check in zip(everything, checks, strict=True)]
    return _result(pick(ranked(reading, turns)), [reading], shown, turns, checks)


async def reason(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Generate a chain of thought in free text, then read a letter, even after a thought that is cut off."""
    assert engine is not None
    question = inputs.question
    prompt = render_thought(question)
    generation = await engine.generate(prompt, Sampling(max_tokens=spec.option("max_tokens")), spec.adapter)
    thought = generation.texts[0].replace("<think>", "").replace("</think>", "").strip()
    after = render_after(prompt, thought, question, spec.template)
    while thought and not engine.fits(engine.tokens(after)):  # The letter needs room, too: the thought loses its end.
        thought = thought[: len(thought) // 2]
        after = render_after(prompt, thought, question, spec.template)
    reading = _finite(await engine.score(after, spec.adapter))
    letter = pick(choice_probabilities([reading]))
    turns = [Turn("think", None, None, thought, "none"), Turn("answer", letter, None, "", "exact")]
    return _with_tokens(_result(letter, [reading], (), turns), generation)


async def sample(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Generate n free replies in one request (self-consistency), and take one reading, which breaks ties."""
    assert engine is not None
    question = inputs.question
    shown = _shown(engine, spec, inputs)
    free = replace(render(question, spec.template, examples=nearest_last(shown)), prefill="", before_letter="")
    settings: dict[str, Any] = {name: value for name, value in spec.settings if name != "retry"}
    # The reading comes first: the prompt that it leaves in the prefix cache serves every reply.
    reading = await _read(engine, spec, inputs, range(len(question.choices)), shown)
    generation = await engine.generate(free, Sampling(**settings), spec.adapter)
    replies = [(text, read_reply(text, question.choices)) for text in generation.texts]
    turns = [Turn("reply", reply.letter, None, text, reply.found) for text, reply in replies]
    retries: list[Reading] = []
    if spec.option("retry"):
        retried = await asyncio.gather(*(_retry(engine, spec, free, question, turn) for turn in turns))
        turns = [turn for turn, _ in retried]
        retries = [retry for _, retry in retried if retry]
    result = _result(None, [reading], shown, turns, retries)
    if any(turn.letter for turn in turns):
        result |= {"status": "answered", "letter": pick(shares(reading, turns))}
    return _with_tokens(result, generation)


async def _retry(
    engine: Engine, spec: InferenceSpec, free: Prompt, question: Question, turn: Turn
) -> tuple[Turn, Reading | None]:
    """Read the letters after a reply that names none, unless the engine has no room left for that."""
    after = render_after(free, turn.text, question, spec.template)
    if turn.letter or not engine.fits(engine.tokens(after)):
        return turn, None
    reading = _finite(await engine.score(after, spec.adapter))
    return replace(turn, letter=pick(choice_probabilities([reading])), found="retry"), reading


async def retrieve(engine: Engine | None, spec: InferenceSpec, inputs: MethodInput) -> MethodResult:
    """Choose by the right and wrong choices of the neighbours, without an engine."""
    assert inputs.neighbours is not None
    assert inputs.transferred is not None
    values = tuple(float(value) for value in inputs.transferred)
    reading = _finite(Reading(tuple(range(len(values))), values, 1.0, prompt_tokens=0, cached_tokens=0))
    result = _result(pick(choice_probabilities([reading])), [reading], inputs.neighbours.solved)
    return result | {"generated_tokens": 0}


METHODS: dict[str, Method] = {
    "direct": direct,
    "verify": verify,
    "verify-rank": verify_rank,
    "reason": reason,
    "sample": sample,
    "retrieve": retrieve,
}

# Methods whose engine has to tell TRUE and FALSE apart.
CHECKS = ("verify", "verify-rank")


def select_examples(
    engine: Engine, spec: InferenceSpec, question: Question, solved: Sequence[RetrievedExample]
) -> list[RetrievedExample]:
    """Return the nearest examples that fit the spec's budget and the engine's length, nearest first.

    The budget drops examples and never the question; an example that is too long makes room for the next one.

    Returns:
        At most as many examples as the spec shows.
    """
    shown: list[RetrievedExample] = []
    alone = engine.tokens(render(question, spec.template)) if solved else 0
    for candidate in solved:
        if len(shown) == spec.examples:
            break
        tokens = engine.tokens(render(question, spec.template, examples=nearest_last([*shown, candidate])))
        if tokens - alone <= spec.tokens and engine.fits(tokens):
            shown.append(candidate)
    return shown


def nearest_last(solved: Sequence[RetrievedExample]) -> list[Question]:
    """Return examples in the order of a prompt: the nearest one is next to the question."""
    return [retrieved.example for retrieved in reversed(solved)]


def _shown(engine: Engine, spec: InferenceSpec, inputs: MethodInput) -> list[RetrievedExample]:
    return select_examples(engine, spec, inputs.question, inputs.neighbours.solved) if inputs.neighbours else []


async def _read(
    engine: Engine, spec: InferenceSpec, inputs: MethodInput, order: Sequence[int], shown: Sequence[RetrievedExample]
) -> Reading:
    """Return one reading of the choices in `order`, after examples."""
    prompt = render(inputs.question, spec.template, order, nearest_last(shown))
    return _finite(await engine.score(prompt, spec.adapter))


async def _check(engine: Engine, spec: InferenceSpec, question: Question, choice: int) -> Reading:
    """Return a reading of whether one choice is right; its letters are the words TRUE and FALSE."""
    return _finite(await engine.score(render_check(question, choice), spec.adapter))


def _finite(reading: Reading) -> Reading:
    if not is_finite(reading):
        raise NotFinite(reading)
    return reading


def _turn(kind: str, choice: int, checked: float | None = None) -> Turn:
    return Turn(kind, letters(26)[choice], checked, "", "exact")


def _result(
    letter: str | None,
    readings: Sequence[Reading],
    shown: Sequence[RetrievedExample],
    turns: Sequence[Turn] = (),
    checks: Sequence[Reading] = (),
) -> MethodResult:
    """Return the fields of an Answer, with the tokens of all prompts and one generated by each reading."""
    scored = [*readings, *checks]
    return {
        "status": "answered" if letter else "abstained",
        "letter": letter,
        "readings": tuple(readings),
        "turns": tuple(turns),
        "retrieved": tuple(Neighbour(retrieved.example.task_id, retrieved.similarity) for retrieved in shown),
        "prompt_tokens": sum(reading.prompt_tokens for reading in scored),
        "cached_tokens": sum(reading.cached_tokens for reading in scored),
        "generated_tokens": len(scored),
    }


def _with_tokens(result: MethodResult, generation: Generation) -> MethodResult:
    names = ("prompt_tokens", "cached_tokens", "generated_tokens")
    return result | {name: result[name] + getattr(generation, name) for name in names}
