"""The training set: the examples that an adapter is trained on, without any question that is asked.

examples -> parts -> (asked ones leave) -> neighbours by leave-one-out | likeliest wrong choices -> training examples
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.kind import kind_of
from codemmlu.dataset.splits import assign
from codemmlu.dataset.synthetic import generate
from codemmlu.engine.adapter_store import what_is_learnt
from codemmlu.engine.model_source import Model
from codemmlu.engine.template_files import changed_prompts
from codemmlu.errors import UserError
from codemmlu.mcq import template_digest
from codemmlu.recipe import FinetuneSettings, digest
from codemmlu.schema import Question
from codemmlu.training.contradictions import Contradiction
from codemmlu.training.encoding import examples_to_table
from codemmlu.training.stored_readings import content_of, likeliest_wrong, taught

# Further neighbours that are looked up for each one that is shown: neighbours outside the part `train` are dropped.
_SPARE = 3
LookUp = Callable[[Sequence[Question], int], list[list[str]]]
# Returns the examples whose key a tool contradicts.
FindContradictions = Callable[[Sequence[Question]], list[Contradiction]]


@dataclass(frozen=True)
class Helpers:
    """What choosing the training examples may need besides the examples themselves.

    Attributes:
        look_up: Returns the task_ids of the examples nearest to questions, for settings that show some.
        start: The fingerprint of the weights that training starts from, or empty.
        find_contradictions: For settings that leave contradicted examples out.
    """

    look_up: LookUp | None = None
    start: str = ""
    find_contradictions: FindContradictions | None = None


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
        contradicted: Examples that are left out because a tool contradicts their key.
        taught: Examples with a teacher's probabilities.
    """

    table: pa.Table
    train: int
    tune: int
    made: int
    asked: int
    learnt: frozenset[str]
    fingerprint: str
    contradicted: tuple[Contradiction, ...] = ()
    taught: int = 0


def build_training_set(
    settings: FinetuneSettings, seed: int, questions: QuestionSet, helpers: Helpers | None = None
) -> TrainingSet:
    """Choose the training examples.

    Args:
        settings: The settings of the training.
        seed: The seed of the run, which splits the examples.
        questions: The questions that are asked, none of which is learnt from, and the examples.
        helpers: What some settings need.

    Returns:
        The training set; an empty part train or tune, or a teacher that knows no example, is a UserError.
    """
    helpers = helpers or Helpers()
    candidates = _candidates(settings, seed, questions, helpers)
    kept = _limited(candidates.kept, settings)
    synthetic = generate(settings.synthesise, settings.seed)
    chosen = [*(example for example, _ in kept), *synthetic]
    chosen_parts = [*(part for _, part in kept), *("train" for _ in synthetic)]
    _refuse_empty(settings, chosen_parts)
    learnt = frozenset(map(content_key, chosen))
    near = _near(chosen, candidates.learnable, settings, helpers.look_up)
    rows = {example.task_id: row for row, example in enumerate(chosen)}
    for example in (example for shown in near for example in shown):  # An example may be shown and not be learnt from.
        if rows.setdefault(example.task_id, len(chosen)) == len(chosen):
            chosen, chosen_parts = [*chosen, example], [*chosen_parts, "shown"]
    neighbours = [[rows[example.task_id] for example in shown] for shown in near]
    neighbours += [[] for _ in chosen[len(neighbours) :]]
    wrong = {
        row: candidates.rejected[content_of(q)] for row, q in enumerate(chosen) if content_of(q) in candidates.rejected
    }
    soft = _soft_labels(settings, chosen)
    table = examples_to_table(chosen, chosen_parts, neighbours, wrong, soft)
    content = [(q.task_id, q.question, q.choices, q.answer, part) for q, part in zip(chosen, chosen_parts, strict=True)]
    return TrainingSet(
        table=table,
        train=chosen_parts.count("train"),
        tune=chosen_parts.count("tune"),
        made=len(synthetic),
        asked=candidates.asked,
        learnt=learnt,
        fingerprint=digest(content, neighbours, sorted(wrong.items()), *([sorted(soft.items())] if soft else [])),
        contradicted=candidates.contradicted,
        taught=len(soft),
    )


@dataclass(frozen=True)
class _Candidates:
    """The examples that may be learnt from, before limits.

    Attributes:
        kept: The examples of the parts train and tune, each with its part.
        asked: The number of examples that are left out because they are asked.
        rejected: The wrong choice to reject by content, for preference tuning.
        contradicted: The examples that are left out because a tool contradicts their key.
    """

    kept: list[tuple[Question, str]]
    asked: int
    rejected: dict[tuple[str, tuple[str, ...]], int] = field(default_factory=dict)
    contradicted: tuple[Contradiction, ...] = ()

    @property
    def learnable(self) -> list[Question]:
        """Return the examples of the part train."""
        return [example for example, part in self.kept if part == "train"]


def _candidates(settings: FinetuneSettings, seed: int, questions: QuestionSet, helpers: Helpers) -> _Candidates:
    """Return the examples of the parts train and tune, without those that are asked or that the settings leave out."""
    examples, asked = questions.examples, questions.content_keys
    parts: list[str] = [*assign(examples, seed)]  # Of all examples, so that no setting moves one to another part.
    is_asked = [content_key(example) in asked for example in examples]
    kept = [
        (example, part)
        for example, part, leaves in zip(examples, parts, is_asked, strict=True)
        if part in ("train", "tune") and not leaves and (settings.kinds is None or kind_of(example) in settings.kinds)
    ]
    rejected = likeliest_wrong(settings, helpers.start) if settings.pairs_from else {}
    if settings.pairs_from:
        kept = [(example, part) for example, part in kept if content_of(example) in rejected]
    contradicted: tuple[Contradiction, ...] = ()
    if settings.contradicted == "leave_out" and helpers.find_contradictions:
        contradicted = tuple(helpers.find_contradictions([example for example, _ in kept]))
        leave = {one.task_id for one in contradicted}
        kept = [(example, part) for example, part in kept if example.task_id not in leave]
    return _Candidates(kept, sum(is_asked), rejected, contradicted)


def _refuse_empty(settings: FinetuneSettings, parts: Sequence[str]) -> None:
    """Refuse a training without examples to learn from, or without examples to be tuned by."""
    why = f" that {settings.pairs_from} answered" if settings.pairs_from else ""
    why += f" of kind {', '.join(settings.kinds)}" if settings.kinds else ""
    for part in ("train", "tune"):
        if part not in parts:
            raise UserError(
                f"there is no example{why} in the {part} part to learn from; give more examples", key="finetune"
            )


def _soft_labels(settings: FinetuneSettings, chosen: Sequence[Question]) -> dict[int, tuple[float, ...]]:
    """Return the teacher's probabilities by row; the settings may have no teacher."""
    known = taught(settings)
    soft = {row: known[content_of(q)] for row, q in enumerate(chosen) if content_of(q) in known}
    if settings.teacher and not soft:
        raise UserError(
            f"{settings.teacher.voter} of {settings.teacher.run} answered none of the examples; ask the examples there",
            key="finetune.teacher",
        )
    return soft


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
        of_part.sort(key=lambda row: digest("learn", settings.seed, *content_of(kept[row][0])))
        rows |= set(of_part[:limit])
    return [pair for row, pair in enumerate(kept) if row in rows]


def _near(
    chosen: Sequence[Question], learnable: Sequence[Question], settings: FinetuneSettings, look_up: LookUp | None
) -> list[list[Question]]:
    """Return for each chosen example its nearest others, nearest first, from the part train alone."""
    if look_up is None:
        return [[] for _ in chosen]
    known = {example.task_id: example for example in learnable}
    nearest = look_up(chosen, settings.examples * (1 + _SPARE))
    return [[known[name] for name in names if name in known][: settings.examples] for names in nearest]
