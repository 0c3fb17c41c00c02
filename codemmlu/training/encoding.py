"""Lessons: what a model is trained on, as token sequences in the order in which they are learnt.

Prompts are those of the voters, by the one renderer; the loss is on the answer's letter alone. Nothing is ever cut: a
sequence that is too long is left out and counted. All of it follows from the examples and the settings, so that a
training that was interrupted goes on in the same order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.engine import chat_template
from codemmlu.errors import UserError
from codemmlu.mcq import render
from codemmlu.recipe import FinetuneSettings, digest
from codemmlu.schema import QUESTION, Question, letters, question_from

# What a worker is given: an example, which part it is in, its neighbours by their rows in the same table, nearest
# first, and for preference tuning the text's index among the choices that the model wrongly likes best.
LESSON = (
    QUESTION.append(pa.field("part", pa.string()))
    .append(pa.field("neighbours", pa.list_(pa.int32())))
    .append(pa.field("rejected", pa.int32()))
)
IGNORED = -100  # the label of a token that carries no loss
_POOLED = 16  # micro-batches that are sorted by length together


Row = dict[str, list[int]]


@dataclass(frozen=True)
class TrainingExample:
    """An example with the solved ones that are shown before it, nearest last; rejected: of preference tuning."""

    question: Question
    shown: tuple[Question, ...] = ()
    rejected: int | None = None


def examples_to_table(
    examples: Sequence[Question],
    parts: Sequence[str],
    neighbours: Sequence[Sequence[int]],
    rejected: Mapping[int, int],
) -> pa.Table:
    """Examples as a LESSON table. neighbours: of each, rows of `examples`; rejected: by row."""
    rows = [
        {
            **{name: getattr(example, name) for name in QUESTION.names},
            "part": part,
            "neighbours": list(near),
            "rejected": rejected.get(row),
        }
        for row, (example, part, near) in enumerate(zip(examples, parts, neighbours, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=LESSON)


def examples_from_table(table: pa.Table, part: str, settings: FinetuneSettings) -> list[TrainingExample]:
    """One part of a LESSON table. A seeded share of it is shown no examples, so that the model learns to do without."""
    rows = table.to_pylist()
    questions = [question_from(row) for row in rows]
    found = []
    for row, question in zip(rows, questions, strict=True):
        if row["part"] != part:
            continue
        near = [questions[place] for place in reversed(row["neighbours"][: settings.examples])]
        if part == "train" and _share("withhold", settings.seed, question) < settings.withhold:
            near = []
        found.append(TrainingExample(question, tuple(near), row["rejected"]))
    return found


def order_of(question: Question, epoch: int, settings: FinetuneSettings) -> tuple[int, ...]:
    """In which order an epoch shows the choices: a seeded one, turned by one place each epoch.

    So over as many epochs as there are choices the right one stands at each letter once, and none can be learnt.
    """
    places = range(len(question.choices))
    if not settings.reorder:
        return tuple(places)
    start = _random("order", settings.seed, question).permutation(len(places))
    return tuple(int(start[(place + epoch) % len(places)]) for place in places)


def sequence(tokenizer: Any, lesson: TrainingExample, order: Sequence[int], template: str) -> tuple[list[int], int]:
    """A prompt's tokens, and the token of its right letter. Raises UserError where that is not one token."""
    question = lesson.question
    prompt = render(question, template, order, lesson.shown)
    right = letters(len(order))[list(order).index(letters(26).index(question.answer or ""))]
    text, tokens = chat_template.encode(tokenizer, prompt)
    token = chat_template.letter_token(tokenizer, text, tokens, prompt.before_letter + right)
    if token is None:
        raise UserError(f"finetune.template: {right} is not one token of its own after {template}; choose another")
    return tokens, token


def letter_tokens(tokenizer: Any, lesson: TrainingExample, size: int, template: str) -> list[int]:
    """The tokens of the first `size` letters after a prompt, those that are one token."""
    prompt = render(lesson.question, template)
    text, tokens = chat_template.encode(tokenizer, prompt)
    found = (chat_template.letter_token(tokenizer, text, tokens, prompt.before_letter + name) for name in letters(size))
    return [token for token in found if token is not None]


def encode_sft(
    tokenizer: Any, its: Sequence[TrainingExample], epoch: int | None, settings: FinetuneSettings
) -> tuple[list[Row], int]:
    """Lessons as sequences {input_ids, labels} of equal length, and how many were too long.

    A lesson that is too long sheds its most distant examples first. epoch: None: choices as they stand.
    """
    rows, dropped = [], 0
    for lesson in its:
        plain = tuple(range(len(lesson.question.choices)))
        order = plain if epoch is None else order_of(lesson.question, epoch, settings)
        for first in range(len(lesson.shown) + 1):
            fewer = TrainingExample(lesson.question, lesson.shown[first:])
            tokens, letter = sequence(tokenizer, fewer, order, settings.template)
            if len(tokens) < settings.max_length:
                rows.append({"input_ids": [*tokens, letter], "labels": [IGNORED] * len(tokens) + [letter]})
                break
        else:
            dropped += 1
    return rows, dropped


def encode_preference(
    tokenizer: Any, its: Sequence[TrainingExample], epoch: int | None, settings: FinetuneSettings
) -> tuple[list[Row], int]:
    """Preference pairs {prompt_ids, chosen_ids, rejected_ids}, and how many were too long.

    They differ by the letter alone. epoch: None: choices as they stand.
    """
    rows, dropped = [], 0
    for lesson in its:
        assert lesson.rejected is not None
        plain = tuple(range(len(lesson.question.choices)))
        order = plain if epoch is None else order_of(lesson.question, epoch, settings)
        wrong = replace(lesson.question, answer=letters(26)[lesson.rejected])
        tokens, letter = sequence(tokenizer, lesson, order, settings.template)
        _, other = sequence(tokenizer, TrainingExample(wrong), order, settings.template)
        if len(tokens) < settings.max_length:
            rows.append({"prompt_ids": tokens, "chosen_ids": [letter], "rejected_ids": [other]})
        else:
            dropped += 1
    return rows, dropped


def build_epochs(
    tokenizer: Any,
    its: Sequence[TrainingExample],
    settings: FinetuneSettings,
    make: Callable[[Any, Sequence[TrainingExample], int | None, FinetuneSettings], tuple[list[Row], int]],
) -> tuple[list[Row], int]:
    """All epochs' rows in the order in which they are learnt, and how many lessons were too long.

    make: `encoded` or `pairs`
    """
    found: list[Row] = []
    rest: list[Row] = []
    dropped = 0
    for epoch in range(settings.epochs):
        rows, dropped = make(tokenizer, its, epoch, settings)
        whole, rest = by_length([*rest, *rows], settings.batch_size, digest("epoch", settings.seed, epoch))
        found += whole
    return [*found, *rest], dropped


def by_length(rows: Sequence[Row], batch: int, seed: str) -> tuple[list[Row], list[Row]]:
    """Rows in a seeded random order in which each micro-batch holds sequences of about one length, and what is left.

    Padding is computed for nothing, so pools of some micro-batches are sorted, cut, and the pieces shuffled again.
    Fewer rows than fill a micro-batch are left for the next epoch: those after them would be cut elsewhere.
    """
    random = np.random.default_rng(int(seed, 16))
    mixed = [rows[place] for place in random.permutation(len(rows))]
    full = len(mixed) // batch * batch
    found = []
    for start in range(0, full, batch * _POOLED):
        pool = sorted(mixed[start : min(full, start + batch * _POOLED)], key=lambda row: max(map(len, row.values())))
        pieces = [pool[first : first + batch] for first in range(0, len(pool), batch)]
        found += [row for place in random.permutation(len(pieces)) for row in pieces[place]]
    return found, mixed[full:]


def _random(*parts: Any) -> np.random.Generator:
    *names, question = parts
    name = digest(*names, question.question, question.choices, question.task_id)
    return np.random.default_rng(int(name, 16))


def _share(name: str, seed: int, question: Question) -> float:
    """A question's place between 0 and 1."""
    return float(_random(name, seed, question).random())
