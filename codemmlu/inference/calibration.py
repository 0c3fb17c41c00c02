"""Calibration: the letter priors and thresholds that are estimated from answers before their use."""

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

# The threshold where the answers favour none, as in the reference project.
DEFAULT_THRESHOLD = 0.5


# The file of the content hashes of the pilot's questions.
PILOT_FILE = "pilot.json"


# Questions of a pilot: enough for a prior by letter, few enough to be asked in seconds.
PILOT = 64


# The texts of content-free questions (contextual calibration: Zhao et al. 2021, arXiv:2102.09690).
NULL_TEXTS = ("N/A", "[MASK]", "?")


@dataclass(frozen=True)
class Calibration:
    """The answers that a letter prior or a threshold is estimated from.

    Attributes:
        spec: The spec of the answers.
        questions: The questions that they answer; None: all questions of the run.
        split: The purpose of the questions: a pilot, content-free questions, or examples for fitting.
    """

    spec: InferenceSpec
    questions: tuple[Question, ...] | None = None
    split: Split = "test"


def null_questions(sizes: Iterable[int]) -> tuple[Question, ...]:
    """Return the content-free questions for each number of choices."""
    return tuple(
        Question(f"null-prompt/{size}/{text}", None, text, (text,) * size, None, "", 0)
        for size in sorted(sizes)
        for text in NULL_TEXTS
    )


def pilot_questions(questions: Iterable[Question], written: Sequence[str]) -> tuple[Question, ...]:
    """Return the pilot: the questions that a prior is estimated from before it is needed.

    Args:
        questions: All questions of the run.
        written: Content hashes of an earlier attempt's pilot. It stays the pilot as long as the run still has all of
            its questions, so that further questions change nothing for those that are answered.

    Returns:
        The earlier pilot, or else the questions with the smallest content hashes.
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
    """Return the hash of a question's content and its task_id."""
    # Real files repeat whole questions under different task_ids.
    return digest("identity", question.question, question.choices, question.task_id)


def _pilot(run: RunDir, questions: Iterator[Question]) -> tuple[Question, ...]:
    written = json.loads(run.read(PILOT_FILE)) if run.exists(PILOT_FILE) else []
    return pilot_questions(questions, written)


def stored_prior(run: RunDir, pool: str, calibration: Calibration) -> Prior:
    """Return the prior of a pilot or of content-free questions: as written, or else from their answers."""
    name = _fitted_file(calibration)
    if run.exists(name):
        return {int(size): tuple(logs) for size, logs in json.loads(run.read(name)).items()}
    # The letters of few real questions are chance in part; each content-free question shows all there is to know.
    return _estimate(calibration_answers(run, pool, calibration), shrunk=calibration.split != "null")


def write_prior(run: RunDir, pool: str, calibration: Calibration) -> Prior:
    """Estimate a prior that inference needs, and write it so that all later answers use the same one.

    If a pilot question fails and is answered in a later attempt, the prior does not change.

    Args:
        run: The run directory.
        pool: The pool that has answered.
        calibration: The answers to estimate from.

    Returns:
        The prior; it is written only if most of the questions were answered.
    """
    prior = stored_prior(run, pool, calibration)
    if _mostly_answered(run, pool, calibration):
        run.write(_fitted_file(calibration), json.dumps(prior).encode())
    return prior


def stored_threshold(run: RunDir, pool: str, calibration: Calibration) -> float:
    """Return the threshold fitted on the fit split: as written, or else from the stored answers."""
    name = _fitted_file(calibration)
    if run.exists(name):
        return float(json.loads(run.read(name)))
    answers = {answer.key: answer for answer in calibration_answers(run, pool, calibration)}
    return fit_threshold(calibration.questions or (), calibration.spec, answers)


def write_threshold(run: RunDir, pool: str, calibration: Calibration) -> float:
    """Fit a threshold that inference needs, and write it as `write_prior` writes a prior."""
    threshold = stored_threshold(run, pool, calibration)
    if _mostly_answered(run, pool, calibration):
        run.write(_fitted_file(calibration), json.dumps(threshold).encode())
    return threshold


def _mostly_answered(run: RunDir, pool: str, calibration: Calibration) -> bool:
    """Tell whether most questions were answered: an estimate from few answers is not kept for good."""
    answered = sum(a.status == "answered" for a in calibration_answers(run, pool, calibration))
    return answered * 2 > len(calibration.questions or ())


def _fitted_file(calibration: Calibration) -> str:
    keys = sorted(calibration.spec.key(question) for question in calibration.questions or ())
    return f"fitted/{digest(*keys)}.json"


def calibration_answers(run: RunDir, pool: str, calibration: Calibration) -> list[Answer]:
    """Return the stored answers to a calibration's questions; none where it uses the voter's own answers."""
    wanted = {calibration.spec.key(question) for question in calibration.questions or ()}
    return list(stored_answers(run, pool, wanted).values()) if wanted else []


def _estimate(answers: Iterable[Answer], shrunk: bool = True) -> Prior:
    return estimate((answer.readings for answer in answers if answer.status == "answered"), shrunk)


def fit_threshold(questions: Iterable[Question], spec: InferenceSpec, answers: Mapping[str, Answer]) -> float:
    """Return the threshold under which most questions would have been answered right.

    Args:
        questions: Questions with their right letters.
        spec: The spec of the answers.
        answers: By key: conversations in which nothing was accepted before one choice was left. So each shows the
            answer under any threshold: the first one whose check reaches the threshold, or else the last one.

    Returns:
        Of equally good thresholds the nearest to DEFAULT_THRESHOLD, and DEFAULT_THRESHOLD itself without any answer.
    """
    conversations = [
        (question.answer, answer)
        for question in questions
        if (answer := answers.get(spec.key(question))) and answer.status == "answered" and question.answer
    ]
    if not conversations:
        return DEFAULT_THRESHOLD
    checks = sorted({turn.p_true for _, answer in conversations for turn in answer.turns if turn.p_true is not None})
    # Midpoints between checks, not the checks: stored as float32, a check may compare differently than it did live.
    between = [(low + high) / 2 for low, high in itertools.pairwise(checks)]
    candidates = [DEFAULT_THRESHOLD, 0.0, 1.0, *between]
    spans = [span for right, answer in conversations for span in _right_spans(answer, right)]
    begins, ends = np.sort([low for low, _ in spans]), np.sort([high for _, high in spans])
    hits = np.searchsorted(begins, candidates, "left") - np.searchsorted(ends, candidates, "left")
    best = max(zip(hits, candidates, strict=True), key=lambda pair: (pair[0], -abs(pair[1] - DEFAULT_THRESHOLD)))
    return best[1]


def _right_spans(answer: Answer, right: str) -> list[tuple[float, float]]:
    """Return the intervals (low, high] of thresholds under which a conversation ends at the right letter."""
    spans, reached = [], -math.inf
    for turn in answer.turns:
        if turn.p_true is not None and turn.p_true > reached:
            if turn.letter == right:
                spans.append((reached, turn.p_true))
            reached = turn.p_true
    return [*spans, (reached, math.inf)] if answer.turns[-1].letter == right else spans
