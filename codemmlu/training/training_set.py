"""The curriculum: what a finetune learns from, and that none of it is asked.

examples -> parts -> (those that are asked leave) -> neighbours by leave-one-out | likeliest wrong choices -> lessons
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from codemmlu import dataset
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.examples import asked_content_keys, holdout_ids
from codemmlu.dataset.splits import assign
from codemmlu.dataset.synthetic import generate
from codemmlu.engine.adapter_store import what_is_learnt
from codemmlu.engine.model_source import Model
from codemmlu.errors import UserError
from codemmlu.mcq import choice_probabilities, template_digest
from codemmlu.recipe import FinetuneSettings, Recipe, digest
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, Reading, answer_from, letters, question_from
from codemmlu.training.encoding import examples_to_table

# Examples that are looked up for each that is shown: those of other parts than `train` are passed over.
_SPARE = 3
LookUp = Callable[[Sequence[Question], int], list[list[str]]]


@dataclass(frozen=True)
class TrainingSet:
    """Lessons as a LESSON table, how many of them are learnt and tuned by, and how many examples are asked themselves.

    learnt: the twin keys of both; fingerprint: of all that is in the table
    """

    table: pa.Table
    train: int
    tune: int
    made: int
    asked: int
    learnt: frozenset[str]
    fingerprint: str


def build_training_set(
    recipe: Recipe, settings: FinetuneSettings, look_up: LookUp | None, start: str = ""
) -> TrainingSet:
    """What is to be learnt. Raises UserError.

    look_up: the task_ids of the examples nearest to questions, for settings that show some
    start: the fingerprint of the weights gone on from, or empty
    """
    examples, _ = dataset.read_examples(recipe.examples, holdout_ids(recipe) or frozenset())
    parts: list[str] = [*assign(examples, recipe.seed)]
    asked = asked_content_keys(recipe)
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
    made = generate(settings.synthesise, settings.seed)
    chosen = [*(example for example, _ in kept), *made]
    its = [*(part for _, part in kept), *("train" for _ in made)]
    for part in ("train", "tune"):
        if part not in its:
            why = f" that {settings.pairs_from} answered" if settings.pairs_from else ""
            raise UserError(f"finetune: there is no example{why} in the {part} part to learn from; give more examples")
    learnt = frozenset(map(content_key, chosen))
    near = _near(chosen, learnable, settings, look_up)
    rows = {example.task_id: row for row, example in enumerate(chosen)}
    for example in (example for shown in near for example in shown):  # those that are shown and not learnt themselves
        if rows.setdefault(example.task_id, len(chosen)) == len(chosen):
            chosen, its = [*chosen, example], [*its, "shown"]
    places = [[rows[example.task_id] for example in shown] for shown in near]
    places += [[] for _ in chosen[len(places) :]]
    wrong = {row: rejected[_content(q)] for row, q in enumerate(chosen) if _content(q) in rejected}
    table = examples_to_table(chosen, its, places, wrong)
    said = [(q.task_id, q.question, q.choices, q.answer, part) for q, part in zip(chosen, its, strict=True)]
    name = digest(said, places, sorted(wrong.items()))
    return TrainingSet(table, its.count("train"), its.count("tune"), len(made), sum(is_asked), learnt, name)


def fingerprint(settings: FinetuneSettings, model: Model, training_set: TrainingSet, start: str) -> str:
    """Names all that determines the weights. start: the fingerprint of the weights gone on from, or empty."""
    words = template_digest(settings.template)
    return digest("finetune", 1, what_is_learnt(settings), words, model.fingerprint, training_set.fingerprint, start)


def _limited(kept: list[tuple[Question, str]], settings: FinetuneSettings) -> list[tuple[Question, str]]:
    """The first of each part by a seeded hash of what they say, in the order of the file."""
    most = {"train": settings.limit, "tune": settings.tune_limit}
    places: set[int] = set()
    for part, limit in most.items():
        of_part = [place for place, (_, its) in enumerate(kept) if its == part]
        of_part.sort(key=lambda place: digest("learn", settings.seed, *_content(kept[place][0])))
        places |= set(of_part[:limit])
    return [one for place, one in enumerate(kept) if place in places]


def _content(question: Question) -> tuple[str, tuple[str, ...]]:
    return question.question, question.choices


def _near(
    chosen: Sequence[Question], learnable: Sequence[Question], settings: FinetuneSettings, look_up: LookUp | None
) -> list[list[Question]]:
    """For each lesson the nearest others of the train part, nearest first: the other parts stay out."""
    if look_up is None:
        return [[] for _ in chosen]
    known = {example.task_id: example for example in learnable}
    found = look_up(chosen, settings.examples * (1 + _SPARE))
    return [[known[name] for name in names if name in known][: settings.examples] for names in found]


def _likeliest_wrong(settings: FinetuneSettings, start: str) -> dict[tuple[str, tuple[str, ...]], int]:
    """Of each labelled question that a run asked the model: the wrong choice that it likes best. Raises UserError.

    Of several ways in which it was asked directly, the one with the most whole readings counts.
    """
    assert settings.pairs_from is not None
    run = RunDir(settings.pairs_from)
    asks = _asks(run, settings, start)
    most: dict[str, tuple[int, str, tuple[Reading, ...]]] = {}
    for name in run.files(f"answers/{settings.model}"):
        for row in run.read_table(name).to_pylist():
            answer = answer_from(row)
            if answer.split == "test" and answer.ask in asks:
                this = (len(answer.readings), answer.ask, answer.readings)
                most[answer.task_id] = max(this, most.get(answer.task_id, (0, "", ())), key=lambda one: one[:2])
    found = {}
    for name in run.files("questions"):
        for row in run.read_table(name).to_pylist():
            question = question_from(row)
            if question.answer and question.task_id in most:
                readings = most[question.task_id][2]
                if readings:
                    liked = choice_probabilities(readings)
                    liked[letters(26).index(question.answer)] = -1.0
                    found[_content(question)] = int(np.argmax(liked))
    return found


def _asks(run: RunDir, settings: FinetuneSettings, start: str) -> frozenset[str]:
    """The direct asks in which a finished run asked the model that is to be trained.

    That is the model with the weights gone on from, if any voter of that run had them; else as it came. What other
    weights like is not what these do. Raises UserError.
    """
    report = json.loads(run.read("report.json")) if run.exists("report.json") else {"voters": {}}
    its = {name: told for name, told in report["voters"].items() if told["model"] == settings.model}
    direct = {name: told for name, told in its.items() if str(told["ask"]).startswith("direct-")}
    for weights in (start, ""):
        if asks := frozenset(told["ask"] for told in direct.values() if (told.get("adapter") or "") == weights):
            return asks
    raise UserError(
        f"finetune.pairs_from: {run.shown} has no finished answers of a voter with method direct and "
        f"model {settings.model}; run one on the examples first"
    )
