"""The readings of a finished run, by the content of its questions: what a model thought of the examples that it asked.

Preference tuning takes the likeliest wrong choice from them, and distillation a teacher's probabilities.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from codemmlu.errors import UserError, first_line
from codemmlu.mcq import Probabilities, choice_probabilities
from codemmlu.recipe import FinetuneSettings
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, Reading, answer_from, letters, question_from

# The text and the choices of a question.
Content = tuple[str, tuple[str, ...]]


def content_of(question: Question) -> Content:
    """Return what a question is known by in another run."""
    return question.question, question.choices


def likeliest_wrong(settings: FinetuneSettings, start: str) -> dict[Content, int]:
    """Return the wrong choice that the model finds likeliest, for each labelled question of a run.

    Of several specs with method direct, the one with the most readings counts.

    Args:
        settings: The settings of the training, with the run in `pairs_from`.
        start: The fingerprint of the weights that training starts from, or empty.

    Returns:
        The index of the wrong choice, by the question's content.
    """
    assert settings.pairs_from is not None
    run = RunDir(settings.pairs_from, "finetune.pairs_from")
    rejected = {}
    for question, probabilities in _probabilities(run, settings.model, _direct_specs(run, settings, start)):
        if question.answer:
            probabilities[letters(26).index(question.answer)] = -1.0
            rejected[content_of(question)] = int(np.argmax(probabilities))
    return rejected


def taught(settings: FinetuneSettings) -> Mapping[Content, tuple[float, ...]]:
    """Return the teacher's probabilities of the choices, by the question's content; none without a teacher.

    Raises:
        UserError: The run has no such voter, or none whose answers are readings of letters.
    """
    if settings.teacher is None:
        return {}
    run = RunDir(settings.teacher.run, "finetune.teacher.run")
    voters = _voters(run)
    voter = voters.get(settings.teacher.voter)
    if voter is None:
        known = f"; its voters: {', '.join(voters)}" if voters else ""
        raise UserError(
            f"{run.shown} has no finished voter {settings.teacher.voter}{known}; ask the examples there first",
            key="finetune.teacher.voter",
        )
    found = {
        content_of(question): tuple(map(float, probabilities))
        for question, probabilities in _probabilities(run, str(voter.get("model")), frozenset([str(voter.get("ask"))]))
    }
    if not found:
        raise UserError(
            f"{settings.teacher.voter} of {run.shown} has no readings of letters; name a voter with method direct",
            key="finetune.teacher.voter",
        )
    return found


def _probabilities(run: RunDir, pool: str, specs: frozenset[str]) -> list[tuple[Question, Probabilities]]:
    """Return the mean of the readings of each question of a run, under the spec with the most of them."""
    most: dict[str, tuple[int, str, tuple[Reading, ...]]] = {}
    for name in run.files(f"answers/{pool}"):
        for row in run.read_table(name).to_pylist():
            answer = answer_from(row)
            if answer.split == "test" and answer.ask in specs:
                candidate = (len(answer.readings), answer.ask, answer.readings)
                best = most.get(answer.task_id, (0, "", ()))
                most[answer.task_id] = max(candidate, best, key=lambda entry: entry[:2])
    questions = [question_from(row) for name in run.files("questions") for row in run.read_table(name).to_pylist()]
    readings = {task_id: kept for task_id, (_, _, kept) in most.items() if kept}
    return [
        (question, choice_probabilities(readings[question.task_id]))
        for question in questions
        if question.task_id in readings
    ]


def _voters(run: RunDir) -> dict[str, dict[str, Any]]:
    """Return the voters of a finished run's report, by name; none where there is no report.

    Raises:
        UserError: The report is broken.
    """
    if not run.exists("report.json"):
        return {}
    try:
        voters = dict(json.loads(run.read("report.json"))["voters"])
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{run.shown}/report.json is broken: {first_line(error)}", key=run.key) from None
    return {name: voter for name, voter in voters.items() if isinstance(voter, dict)}


def _direct_specs(run: RunDir, settings: FinetuneSettings, start: str) -> frozenset[str]:
    """Return the direct specs under which a finished run asked the model that is to be trained.

    That is the model with the weights that training starts from, if any voter of the run had them, or else the plain
    model: other weights prefer other choices.

    Args:
        run: The directory of the finished run.
        settings: The settings of the training.
        start: The fingerprint of the weights that training starts from, or empty.

    Returns:
        The names of the specs.

    Raises:
        UserError: The run has no such answers.
    """
    voters = [voter for voter in _voters(run).values() if voter.get("model") == settings.model]
    direct = [voter for voter in voters if str(voter.get("ask")).startswith("direct-")]
    for weights in (start, ""):
        if specs := frozenset(voter["ask"] for voter in direct if (voter.get("adapter") or "") == weights):
            return specs
    raise UserError(
        f"{run.shown} has no finished answers of a voter with method direct and "
        f"model {settings.model}; run one on the examples first",
        key="finetune.pairs_from",
    )
