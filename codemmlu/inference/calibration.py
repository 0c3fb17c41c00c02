"""What is estimated from answers before a voter can answer, or be counted: letter priors and thresholds."""

import heapq
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codemmlu.inference.answer_store import stored_answers
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Prior, estimate
from codemmlu.recipe import digest
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Split

# What is chosen where nothing tells two thresholds apart, as in the reference project.
DEFAULT_THRESHOLD = 0.5


# The content hashes of the pilot's questions.
_PILOT = "pilot.json"


# Questions of a pilot: enough for a prior by letter, few enough to be asked in seconds.
PILOT = 64


# What a content-free question says (contextual calibration: Zhao et al. 2021, arXiv:2102.09690).
NULL_TEXTS = ("N/A", "[MASK]", "?")


@dataclass(frozen=True)
class Calibration:
    """What a letter prior, or a threshold, is estimated from: what `ask` told of `questions`; None: of all asked."""

    ask: InferenceSpec
    questions: tuple[Question, ...] | None = None
    split: Split = "test"


def null_questions(sizes: Iterable[int]) -> tuple[Question, ...]:
    """Questions without content, for each number of choices."""
    return tuple(
        Question(f"null-prompt/{size}/{text}", None, text, (text,) * size, None, "", 0)
        for size in sorted(sizes)
        for text in NULL_TEXTS
    )


def pilot_questions(questions: Iterable[Question], written: Sequence[str]) -> tuple[Question, ...]:
    """The questions that a prior is estimated from before it is needed: those of the smallest hashes of their content.

    written: the hashes of an earlier issue's pilot; as long as all of it is still asked it stays, so that more
    questions change nothing for those that have been answered
    """
    kept: dict[str, Question] = {}
    wanted = set(written)

    def hashed() -> Iterator[tuple[str, Question]]:
        for question in questions:
            name = identity(question)
            if name in wanted:
                kept[name] = question
            yield name, question

    smallest = heapq.nsmallest(PILOT, hashed(), key=lambda pair: pair[0])
    if wanted and len(kept) == len(wanted):
        return tuple(kept[name] for name in sorted(kept))
    return tuple(question for _, question in smallest)


def identity(question: Question) -> str:
    """A hash of what is asked, and of its task_id: real files repeat whole questions under different ones."""
    return digest("identity", question.question, question.choices, question.task_id)


def _pilot(run: RunDir, questions: Iterator[Question]) -> tuple[Question, ...]:
    written = json.loads(run.read(_PILOT)) if run.exists(_PILOT) else []
    return pilot_questions(questions, written)


def stored_prior(run: RunDir, pool: str, calibration: Calibration) -> Prior:
    """The prior that a pilot, or empty questions, gave: as it is written down, or else from what is stored of them."""
    name = _fitted_file(calibration)
    if run.exists(name):
        return {int(size): tuple(logs) for size, logs in json.loads(run.read(name)).items()}
    # What few real questions say is chance in part; of empty ones each says all there is to know.
    return _estimate(calibration_answers(run, pool, calibration), shrunk=calibration.split != "null")


def write_prior(run: RunDir, pool: str, calibration: Calibration) -> Prior:
    """Estimates a prior that is needed while asking, and writes it down: what is answered later is judged by the same.

    A pilot's question that failed, and is answered in another issue, changes nothing then.
    """
    prior = stored_prior(run, pool, calibration)
    if _is_told(run, pool, calibration):
        run.write(_fitted_file(calibration), json.dumps(prior).encode())
    return prior


def stored_threshold(run: RunDir, pool: str, calibration: Calibration) -> float:
    """The threshold that the fit split gave: as it is written down, or else from what is stored of it."""
    name = _fitted_file(calibration)
    if run.exists(name):
        return float(json.loads(run.read(name)))
    answers = {answer.key: answer for answer in calibration_answers(run, pool, calibration)}
    return fit_threshold(calibration.questions or (), calibration.ask, answers)


def write_threshold(run: RunDir, pool: str, calibration: Calibration) -> float:
    """As `write_prior`, of a threshold that is fitted."""
    threshold = stored_threshold(run, pool, calibration)
    if _is_told(run, pool, calibration):
        run.write(_fitted_file(calibration), json.dumps(threshold).encode())
    return threshold


def _is_told(run: RunDir, pool: str, calibration: Calibration) -> bool:
    """Whether most of what something is estimated from was answered: what few told is not written down for ever."""
    answered = sum(a.status == "answered" for a in calibration_answers(run, pool, calibration))
    return answered * 2 > len(calibration.questions or ())


def _fitted_file(calibration: Calibration) -> str:
    keys = sorted(calibration.ask.key(question) for question in calibration.questions or ())
    return f"fitted/{digest(*keys)}.json"


def calibration_answers(run: RunDir, pool: str, calibration: Calibration) -> list[Answer]:
    """What is stored of a pilot, or of empty questions; nothing of a voter's own."""
    wanted = {calibration.ask.key(question) for question in calibration.questions or ()}
    return list(stored_answers(run, pool, wanted).values()) if wanted else []


def _estimate(answers: Iterable[Answer], shrunk: bool = True) -> Prior:
    return estimate((answer.readings for answer in answers if answer.status == "answered"), shrunk)


def fit_threshold(questions: Iterable[Question], ask: InferenceSpec, answers: Mapping[str, Answer]) -> float:
    """The threshold under which most questions would have been answered right; of equals the nearest to DEFAULT.

    answers: conversations in which nothing was accepted before one choice was left, so that what any threshold would
    have made of them stands there: the first answer whose check reaches it, or the last one.
    """
    said = [
        (question.answer, found)
        for question in questions
        if (found := answers.get(ask.key(question))) and found.status == "answered" and question.answer
    ]
    if not said:
        return DEFAULT_THRESHOLD
    checks = sorted({turn.p_true for _, answer in said for turn in answer.turns if turn.p_true is not None})
    between = [(low + high) / 2 for low, high in itertools.pairwise(checks)]
    # Between checks, not at one: stored as float32, it may not compare as it did while asking.
    candidates = [DEFAULT_THRESHOLD, 0.0, 1.0, *between]
    spans = [span for right, answer in said for span in _right(answer, right)]
    begins, ends = np.sort([low for low, _ in spans]), np.sort([high for _, high in spans])
    hits = np.searchsorted(begins, candidates, "left") - np.searchsorted(ends, candidates, "left")
    best = max(zip(hits, candidates, strict=True), key=lambda one: (one[0], -abs(one[1] - DEFAULT_THRESHOLD)))
    return best[1]


def _right(answer: Answer, right: str) -> list[tuple[float, float]]:
    """The thresholds, from above the first to the second, under which a conversation ends with the right letter."""
    found, reached = [], -math.inf
    for turn in answer.turns:
        if turn.p_true is not None and turn.p_true > reached:
            if turn.letter == right:
                found.append((reached, turn.p_true))
            reached = turn.p_true
    return [*found, (reached, math.inf)] if answer.turns[-1].letter == right else found
