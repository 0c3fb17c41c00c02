"""The methods: how one question is answered. Each is a coroutine, so that many questions are under way at once."""

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

    neighbours: None for an ask that looks at no example
    transferred: log-probabilities over its choices by what the neighbours say, for the method `retrieve`
    log_prior: of the letters, for an ask that stops reading once it is sure
    threshold: of checks, for an ask whose own is fitted
    """

    question: Question
    neighbours: Neighbours | None = None
    transferred: npt.NDArray[np.float64] | None = None
    log_prior: tuple[float, ...] | None = None
    threshold: float | None = None


# Fields of an Answer. What a method leaves out stays as it is for a failed row.
MethodResult = dict[str, Any]
Method = Callable[[Engine | None, InferenceSpec, MethodInput], Coroutine[Any, Any, MethodResult]]


class NotFinite(Exception):
    """A letter or word came back without a finite log-probability: `reading`, which is kept with the failed row."""

    def __init__(self, reading: Reading) -> None:
        super().__init__("a letter came back without a finite log-probability")
        self.reading = reading


async def direct(engine: Engine | None, ask: InferenceSpec, case: MethodInput) -> MethodResult:
    """The model is shown the question, after solved examples if the ask has some, and its letters are read.

    Further readings show the choices in other orders. All are sent at once, so that they stand side by side in the
    engine's queue and share the question's tokens in its prefix cache.
    """
    assert engine is not None
    shown = _shown(engine, ask, case)
    seen = orders(len(case.question.choices), ask.setting("readings"), case.question.question)
    if case.log_prior is not None:
        return await _until_sure(engine, ask, case, seen, shown)
    readings = await asyncio.gather(*(_read(engine, ask, case, order, shown) for order in seen))
    return _said(pick(choice_probabilities(readings)), readings, shown)


async def _until_sure(
    engine: Engine,
    ask: InferenceSpec,
    case: MethodInput,
    seen: Sequence[Sequence[int]],
    shown: Sequence[RetrievedExample],
) -> MethodResult:
    """Reads again while the two likeliest choices are close, with the letters' prior divided out."""
    readings: list[Reading] = []
    for order in seen:
        readings.append(await _read(engine, ask, case, order, shown))
        probabilities = choice_probabilities(readings, case.log_prior)
        if margin(probabilities) >= ask.setting("margin"):
            break
    return _said(pick(probabilities), readings, shown)


async def verify(engine: Engine | None, ask: InferenceSpec, case: MethodInput) -> MethodResult:
    """Answer, check the answer, and answer again among the rest when the check says FALSE (the reference's agent).

    TRUE, or only one choice left, ends it. Turns are kept in order: `answer`, `check`, `answer`, ...
    """
    assert engine is not None
    question = case.question
    threshold = ask.setting("threshold") if case.threshold is None else case.threshold
    shown = _shown(engine, ask, case)
    left = list(range(len(question.choices)))
    readings: list[Reading] = []
    checks: list[Reading] = []
    turns: list[Turn] = []
    while True:
        readings.append(await _read(engine, ask, case, left, shown))
        chosen = int(np.argmax(choice_probabilities(readings[-1:], size=len(question.choices))))
        turns.append(_turn("answer", chosen))
        if len(left) == 1:
            break
        checks.append(await _check(engine, ask, question, chosen))
        turns.append(_turn("check", chosen, p_true(checks[-1])))
        if p_true(checks[-1]) >= threshold:
            break
        left.remove(chosen)
    return _said(letters(26)[chosen], readings, shown, turns, checks)


async def verify_rank(engine: Engine | None, ask: InferenceSpec, case: MethodInput) -> MethodResult:
    """Every choice is checked by itself; the answer maximises P(answer) x P(TRUE)."""
    assert engine is not None
    question = case.question
    shown = _shown(engine, ask, case)
    everything = range(len(question.choices))
    reading, *checks = await asyncio.gather(
        _read(engine, ask, case, list(everything), shown),
        *(_check(engine, ask, question, choice) for choice in everything),
    )
    turns = [_turn("check", choice, p_true(check)) for choice, check in zip(everything, checks, strict=True)]
    return _said(pick(ranked(reading, turns)), [reading], shown, turns, checks)


async def reason(engine: Engine | None, ask: InferenceSpec, case: MethodInput) -> MethodResult:
    """A thought in free text, and then a letter. A thought that is cut off is followed by a letter all the same."""
    assert engine is not None
    question = case.question
    asked = render_thought(question)
    thought = await engine.generate(asked, Sampling(max_tokens=ask.setting("max_tokens")), ask.adapter)
    said = thought.texts[0].replace("<think>", "").replace("</think>", "").strip()
    after = render_after(asked, said, question, ask.template)
    while said and not engine.fits(engine.tokens(after)):  # the letter needs room, too: the thought's end goes first
        said = said[: len(said) // 2]
        after = render_after(asked, said, question, ask.template)
    reading = _finite(await engine.score(after, ask.adapter))
    letter = pick(choice_probabilities([reading]))
    turns = [Turn("think", None, None, said, "none"), Turn("answer", letter, None, "", "exact")]
    told = _said(letter, [reading], (), turns)
    return _with_tokens(told, thought)


async def sample(engine: Engine | None, ask: InferenceSpec, case: MethodInput) -> MethodResult:
    """Self-consistency: n free replies in one request, and beside them the one reading that ties are broken by."""
    assert engine is not None
    question = case.question
    shown = _shown(engine, ask, case)
    free = replace(render(question, ask.template, examples=nearest_last(shown)), prefill="", before_letter="")
    settings: dict[str, Any] = {name: value for name, value in ask.settings if name != "retry"}
    # The reading first: what it leaves in the prefix cache serves every reply.
    reading = await _read(engine, ask, case, range(len(question.choices)), shown)
    replies = await engine.generate(free, Sampling(**settings), ask.adapter)
    found = [(text, read_reply(text, question.choices)) for text in replies.texts]
    turns = [Turn("reply", reply.letter, None, text, reply.found) for text, reply in found]
    again: list[Reading] = []
    if ask.setting("retry"):
        retried = await asyncio.gather(*(_retry(engine, ask, free, question, turn) for turn in turns))
        turns = [turn for turn, _ in retried]
        again = [one for _, one in retried if one]
    told = _said(None, [reading], shown, turns, again)
    if any(turn.letter for turn in turns):
        told |= {"status": "answered", "letter": pick(shares(reading, turns))}
    return _with_tokens(told, replies)


async def _retry(
    engine: Engine, ask: InferenceSpec, free: Prompt, question: Question, turn: Turn
) -> tuple[Turn, Reading | None]:
    """A reply that says no letter is followed by a reading of the letters; one without room for that stays as it is."""
    after = render_after(free, turn.text, question, ask.template)
    if turn.letter or not engine.fits(engine.tokens(after)):
        return turn, None
    reading = _finite(await engine.score(after, ask.adapter))
    return replace(turn, letter=pick(choice_probabilities([reading])), found="retry"), reading


async def retrieve(engine: Engine | None, ask: InferenceSpec, case: MethodInput) -> MethodResult:
    """The neighbours' right and wrong choices say which of this question's is right. No engine is asked."""
    assert case.neighbours is not None
    assert case.transferred is not None
    values = tuple(float(value) for value in case.transferred)
    reading = _finite(Reading(tuple(range(len(values))), values, 1.0, prompt_tokens=0, cached_tokens=0))
    told = _said(pick(choice_probabilities([reading])), [reading], case.neighbours.solved)
    return told | {"generated_tokens": 0}


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
    engine: Engine, ask: InferenceSpec, question: Question, solved: Sequence[RetrievedExample]
) -> list[RetrievedExample]:
    """The nearest examples that the ask's budget and the engine's length hold, nearest first.

    The budget drops examples and never the question: an example that is too long makes room for the next one.
    """
    shown: list[RetrievedExample] = []
    alone = engine.tokens(render(question, ask.template)) if solved else 0
    for one in solved:
        if len(shown) == ask.examples:
            break
        tokens = engine.tokens(render(question, ask.template, examples=nearest_last([*shown, one])))
        if tokens - alone <= ask.tokens and engine.fits(tokens):
            shown.append(one)
    return shown


def nearest_last(solved: Sequence[RetrievedExample]) -> list[Question]:
    """Examples in the order of a prompt: what is nearest stands next to the question."""
    return [one.example for one in reversed(solved)]


def _shown(engine: Engine, ask: InferenceSpec, case: MethodInput) -> list[RetrievedExample]:
    return select_examples(engine, ask, case.question, case.neighbours.solved) if case.neighbours else []


async def _read(
    engine: Engine, ask: InferenceSpec, case: MethodInput, order: Sequence[int], shown: Sequence[RetrievedExample]
) -> Reading:
    """One reading of the choices in `order`, after examples."""
    return _finite(await engine.score(render(case.question, ask.template, order, nearest_last(shown)), ask.adapter))


async def _check(engine: Engine, ask: InferenceSpec, question: Question, choice: int) -> Reading:
    """Whether one choice is right; the reading's letters are the words TRUE and FALSE."""
    return _finite(await engine.score(render_check(question, choice), ask.adapter))


def _finite(reading: Reading) -> Reading:
    if not is_finite(reading):
        raise NotFinite(reading)
    return reading


def _turn(kind: str, choice: int, checked: float | None = None) -> Turn:
    return Turn(kind, letters(26)[choice], checked, "", "exact")


def _said(
    letter: str | None,
    readings: Sequence[Reading],
    shown: Sequence[RetrievedExample],
    turns: Sequence[Turn] = (),
    checks: Sequence[Reading] = (),
) -> MethodResult:
    """An answer's fields; tokens are those of all prompts, and each reading generated one."""
    asked = [*readings, *checks]
    return {
        "status": "answered" if letter else "abstained",
        "letter": letter,
        "readings": tuple(readings),
        "turns": tuple(turns),
        "retrieved": tuple(Neighbour(one.example.task_id, one.similarity) for one in shown),
        "prompt_tokens": sum(reading.prompt_tokens for reading in asked),
        "cached_tokens": sum(reading.cached_tokens for reading in asked),
        "generated_tokens": len(asked),
    }


def _with_tokens(told: MethodResult, generation: Generation) -> MethodResult:
    names = ("prompt_tokens", "cached_tokens", "generated_tokens")
    return told | {name: told[name] + getattr(generation, name) for name in names}
