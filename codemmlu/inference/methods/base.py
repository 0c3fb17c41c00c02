"""What all methods of answering share: their input and output, and how a prompt is read.

A method is a coroutine, so that many questions are in flight at once.
"""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from codemmlu.engine.protocol import Engine, Generation
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Prior, Probabilities, choice_probabilities, is_finite, of_size, render, render_check
from codemmlu.retrieval.answer_transfer import Neighbours, RetrievedExample
from codemmlu.schema import Answer, Neighbour, Question, Reading, Status, Turn, letters


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


@dataclass(frozen=True)
class MethodResult:
    """The result of a method for one question: the part of an Answer that a method decides.

    Attributes:
        status: Whether the method found an answer.
        letter: None without an answer.
        readings: All readings of the choices, in the order in which they were taken.
        turns: The steps of a method that needs several.
        retrieved: The examples shown with the question, nearest first.
        prompt_tokens: Tokens of all prompts.
        cached_tokens: Tokens of all prompts that were in the prefix cache.
        generated_tokens: Tokens of all texts, with one for each reading.
    """

    status: Status
    letter: str | None = None
    readings: tuple[Reading, ...] = ()
    turns: tuple[Turn, ...] = ()
    retrieved: tuple[Neighbour, ...] = ()
    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0


def letter_probabilities(answer: Answer, size: int, prior: Prior | None) -> Probabilities:
    """Return the mean of the readings, with the letter prior divided out: shape (size,)."""
    return choice_probabilities(answer.readings, None if prior is None else of_size(prior, size))


@dataclass(frozen=True)
class Method:
    """How a question is answered, and how a stored answer becomes probabilities.

    Attributes:
        run: Answers a question.
        probabilities: Turns a stored answer to a question of `size` choices into probabilities, shape (size,).
        wording: The text of prompts besides the template; it is part of the answers' keys.
        reads_letters: Whether the first reading is of the letters after the voter's own prompt, not after free text.
        checks: Whether the engine has to tell the words TRUE and FALSE apart.
        writes: Whether the model writes free text, for which the recipe's max_model_len leaves room.
        draws: Whether replies are drawn at random, by the run's seed.
        transfers: Whether the method needs the log-probabilities that the neighbours predict.
    """

    run: Callable[[Engine | None, InferenceSpec, MethodInput], Coroutine[Any, Any, MethodResult]]
    probabilities: Callable[[Answer, int, Prior | None], Probabilities] = letter_probabilities
    wording: str = ""
    reads_letters: bool = False
    checks: bool = False
    writes: bool = False
    draws: bool = False
    transfers: bool = False


class NotFinite(Exception):
    """A letter or word without a finite log-probability; its `reading` is kept with the failed row."""

    def __init__(self, reading: Reading) -> None:
        """Keep the reading."""
        super().__init__("a letter came back without a finite log-probability")
        self.reading = reading


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


def shown_examples(engine: Engine, spec: InferenceSpec, inputs: MethodInput) -> list[RetrievedExample]:
    """Return the looked-up examples that the prompt has room for, nearest first."""
    return select_examples(engine, spec, inputs.question, inputs.neighbours.solved) if inputs.neighbours else []


async def read(
    engine: Engine, spec: InferenceSpec, inputs: MethodInput, order: Sequence[int], shown: Sequence[RetrievedExample]
) -> Reading:
    """Return one reading of the choices in `order`, after examples."""
    prompt = render(inputs.question, spec.template, order, nearest_last(shown))
    return finite(await engine.score(prompt, spec.adapter))


async def check(engine: Engine, spec: InferenceSpec, question: Question, choice: int) -> Reading:
    """Return a reading of whether one choice is right; its letters are the words TRUE and FALSE."""
    return finite(await engine.score(render_check(question, choice), spec.adapter))


def finite(reading: Reading) -> Reading:
    """Return a reading whose log-probabilities are all finite; refuse any other as NotFinite."""
    if not is_finite(reading):
        raise NotFinite(reading)
    return reading


def turn(kind: str, choice: int, checked: float | None = None) -> Turn:
    """Return one step of a conversation about a choice."""
    return Turn(kind, letters(26)[choice], checked, "", "exact")


def result(
    letter: str | None,
    readings: Sequence[Reading],
    shown: Sequence[RetrievedExample],
    turns: Sequence[Turn] = (),
    checks: Sequence[Reading] = (),
) -> MethodResult:
    """Return the result of a method, with the tokens of all prompts and one generated by each reading."""
    scored = [*readings, *checks]
    return MethodResult(
        status="answered" if letter else "abstained",
        letter=letter,
        readings=tuple(readings),
        turns=tuple(turns),
        retrieved=tuple(Neighbour(retrieved.example.task_id, retrieved.similarity) for retrieved in shown),
        prompt_tokens=sum(reading.prompt_tokens for reading in scored),
        cached_tokens=sum(reading.cached_tokens for reading in scored),
        generated_tokens=len(scored),
    )


def with_tokens(scored: MethodResult, generation: Generation) -> MethodResult:
    """Add the tokens of free text to those of the readings."""
    return replace(
        scored,
        prompt_tokens=scored.prompt_tokens + generation.prompt_tokens,
        cached_tokens=scored.cached_tokens + generation.cached_tokens,
        generated_tokens=scored.generated_tokens + generation.generated_tokens,
    )
