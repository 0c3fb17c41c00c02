"""The training set: the examples that an adapter is trained on, without any question that is asked.

examples -> parts -> (asked ones leave) -> neighbours by leave-one-out | likeliest wrong choices -> training examples
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.splits import assign
from codemmlu.dataset.synthetic import generate
from codemmlu.engine.adapter_store import what_is_learnt
from codemmlu.engine.model_source import Model
from codemmlu.engine.template_files import changed_prompts
from codemmlu.errors import UserError, first_line
from codemmlu.mcq import choice_probabilities, template_digest
from codemmlu.recipe import FinetuneSettings, digest
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, Reading, answer_from, letters, question_from
from codemmlu.training.encoding import examples_to_table

# Further neighbours that are looked up for each one that is shown: neighbours outside the part `train` are dropped.
_SPARE = 3
LookUp = Callable[[Sequence[Question], int], list[list[str]]]


@dataclass(frozen=True)
class TrainingSet:
    """The training examples, and their numbers.

    Attributes:
        table: The training examples, a LESSON table.
        train: Training examples that are learnt from.
        tune: Training examples that the adapter is tuned by.
        made: Synthetic examples among those that are learnt from.
        asked: Examples that are left out because they are asked.
        learnt: The content keys of the parts train and tune.
        fingerprint: Digest of all that is in the table.
    """

    table: pa.Table
    train: int
    tune: int
    made: int
    asked: int
    learnt: frozenset[str]
    fingerprint: str


def build_training_set(
    settings: FinetuneSettings, seed: int, questions: QuestionSet, look_up: LookUp | None, start: str = ""
) -> TrainingSet:
    """Choose the training examples.

    Args:
        settings: The settings of the training.
        seed: The seed of the run, which splits the examples.
        questions: The questions that are asked, none of which is learnt from, and the examples.
        look_up: Returns the task_ids of the examples nearest to questions, for settings that show some.
        start: The fingerprint of the weights that training starts from, or empty.

    Returns:
        The training set.

    Raises:
        UserError: The part train or the part tune is empty.
    """
    examples = questions.examples
    parts: list[str] = [*assign(examples, seed)]
    asked = questions.content_keys
    is_asked = [content_key(example) in asked for example in examples]
    kept = [
        (example, part)
        for example, part, leaves in zip(examples, parts, is_asked, strict=True)
        if part in ("train", "tune") and not leaves
    ]
    rejected = _likeliest_wrong(settings, start) if settings.pairs_from else {}
    if settings.pairs_from:
        kept = [(example, part) for example, part in kept if _content(example) in rejected]
    learnable = [example for example, part in kept if part == "train"]
    kept = _limited(kept, settings)
    synthetic = generate(settings.synthesise, settings.seed)
    chosen = [*(example for example, _ in kept), *synthetic]
    chosen_parts = [*(part for _, part in kept), *("train" for _ in synthetic)]
    for part in ("train", "tune"):
        if part not in chosen_parts:
            why = f" that {settings.pairs_from} answered" if settings.pairs_from else ""
            raise UserError(
                f"there is no example{why} in the {part} part to learn from; give more examples", key="finetune"
            )
    learnt = frozenset(map(content_key, chosen))
    near = _near(chosen, learnable, settings, look_up)
    rows = {example.task_id: row for row, example in enumerate(chosen)}
    for example in (example for shown in near for example in shown):  # An example may be shown and not be learnt from.
        if rows.setdefault(example.task_id, len(chosen)) == len(chosen):
            chosen, chosen_parts = [*chosen, example], [*chosen_parts, "shown"]
    neighbours = [[rows[example.task_id] for example in shown] for shown in near]
    neighbours += [[] for _ in chosen[len(neighbours) :]]
    wrong = {row: rejected[_content(q)] for row, q in enumerate(chosen) if _content(q) in rejected}
    table = examples_to_table(chosen, chosen_parts, neighbours, wrong)
    content = [(q.task_id, q.question, q.choices, q.answer, part) for q, part in zip(chosen, chosen_parts, strict=True)]
    name = digest(content, neighbours, sorted(wrong.items()))
    return TrainingSet(
        table, chosen_parts.count("train"), chosen_parts.count("tune"), len(synthetic), sum(is_asked), learnt, name
    )


def fingerprint(settings: FinetuneSettings, model: Model, training_set: TrainingSet, start: str) -> str:
    """Return the digest of all that determines the weights; `start` is the starting weights', or empty."""
    words = template_digest(settings.template)
    learnt, changes = what_is_learnt(settings), changed_prompts(model)
    return digest("finetune", 1, learnt, words, model.fingerprint, training_set.fingerprint, start, *changes)


def _limited(kept: list[tuple[Question, str]], settings: FinetuneSettings) -> list[tuple[Question, str]]:
    """Return the first examples of each part by a seeded hash of their content, in the order of the file."""
    most = {"train": settings.limit, "tune": settings.tune_limit}
    rows: set[int] = set()
    for wanted, limit in most.items():
        of_part = [row for row, (_, part) in enumerate(kept) if part == wanted]
        of_part.sort(key=lambda row: digest("learn", settings.seed, *_content(kept[row][0])))
        rows |= set(of_part[:limit])
    return [pair for row, pair in enumerate(kept) if row in rows]


def _content(question: Question) -> tuple[str, tuple[str, ...]]:
    return question.question, question.choices


def _near(
    chosen: Sequence[Question], learnable: Sequence[Question], settings: FinetuneSettings, look_up: LookUp | None
) -> list[list[Question]]:
    """Return for each chosen example its nearest others, nearest first, from the part train alone."""
    if look_up is None:
        return [[] for _ in chosen]
    known = {example.task_id: example for example in learnable}
    nearest = look_up(chosen, settings.examples * (1 + _SPARE))
    return [[known[name] for name in names if name in known][: settings.examples] for names in nearest]


def _likeliest_wrong(settings: FinetuneSettings, start: str) -> dict[tuple[str, tuple[str, ...]], int]:
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
    specs = _direct_specs(run, settings, start)
    most: dict[str, tuple[int, str, tuple[Reading, ...]]] = {}
    for name in run.files(f"answers/{settings.model}"):
        for row in run.read_table(name).to_pylist():
            answer = answer_from(row)
            if answer.split == "test" and answer.ask in specs:
                candidate = (len(answer.readings), answer.ask, answer.readings)
                best = most.get(answer.task_id, (0, "", ()))
                most[answer.task_id] = max(candidate, best, key=lambda entry: entry[:2])
    rejected = {}
    for name in run.files("questions"):
        for row in run.read_table(name).to_pylist():
            question = question_from(row)
            if question.answer and question.task_id in most:
                readings = most[question.task_id][2]
                if readings:
                    probabilities = choice_probabilities(readings)
                    probabilities[letters(26).index(question.answer)] = -1.0
                    rejected[_content(question)] = int(np.argmax(probabilities))
    return rejected


def _voters(run: RunDir) -> list[dict[str, Any]]:
    """Return the voters of a finished run's report; none where there is no report.

    Raises:
        UserError: The report is broken.
    """
    if not run.exists("report.json"):
        return []
    try:
        voters = list(json.loads(run.read("report.json"))["voters"].values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"finetune.pairs_from: {run.shown}/report.json is broken: {first_line(error)}") from None
    return [voter for voter in voters if isinstance(voter, dict)]


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
    voters = [voter for voter in _voters(run) if voter.get("model") == settings.model]
    direct = [voter for voter in voters if str(voter.get("ask")).startswith("direct-")]
    for weights in (start, ""):
        if specs := frozenset(voter["ask"] for voter in direct if (voter.get("adapter") or "") == weights):
            return specs
    raise UserError(
        f"{run.shown} has no finished answers of a voter with method direct and "
        f"model {settings.model}; run one on the examples first",
        key="finetune.pairs_from",
    )
