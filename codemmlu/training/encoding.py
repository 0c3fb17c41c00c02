"""The encoding of training examples: token sequences in the order of training.

Prompts come from the renderer that voters use, and the loss is on the answer's letter alone. No sequence is ever cut:
one that is too long is left out and counted. The sequences and their order follow from the examples and the settings,
so that an interrupted training goes on in the same order.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.dataset.references import references_position
from codemmlu.engine import chat_template
from codemmlu.errors import UserError
from codemmlu.mcq import render
from codemmlu.recipe import FinetuneSettings, digest
from codemmlu.schema import QUESTION, Question, letters, question_from

# The table that a worker reads. `part` is the example's part of the split, `neighbours` are the rows of its neighbours
# in the same table, nearest first, and `rejected` is the index of the wrong choice that the model likes best, for
# preference tuning.
LESSON = (
    QUESTION.append(pa.field("part", pa.string()))
    .append(pa.field("neighbours", pa.list_(pa.int32())))
    .append(pa.field("rejected", pa.int32()))
)
IGNORED = -100  # the label of a token that carries no loss
_POOLED = 16  # micro-batches that are sorted by length together

# The fields of one sequence or preference pair, as token ids.
Row = dict[str, list[int]]


@dataclass(frozen=True)
class TrainingExample:
    """An example to train on.

    Attributes:
        question: The solved question.
        shown: Solved questions that the prompt shows before, nearest last.
        rejected: For preference tuning, the index of the wrong choice that the model likes best.
    """

    question: Question
    shown: tuple[Question, ...] = ()
    rejected: int | None = None


def examples_to_table(
    examples: Sequence[Question],
    parts: Sequence[str],
    neighbours: Sequence[Sequence[int]],
    rejected: Mapping[int, int],
) -> pa.Table:
    """Make a LESSON table of examples.

    Args:
        examples: Solved questions.
        parts: Part of each example.
        neighbours: For each example, the indices of its neighbours in `examples`.
        rejected: For preference tuning, the index of an example to that of the rejected choice.

    Returns:
        One row per example, in the order of the examples.
    """
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
    """Return the training examples of one part of a LESSON table."""
    rows = table.to_pylist()
    questions = [question_from(row) for row in rows]
    examples = []
    for row, question in zip(rows, questions, strict=True):
        if row["part"] != part:
            continue
        near = [questions[number] for number in reversed(row["neighbours"][: settings.examples])]
        # A seeded share of the train part is shown no neighbours, so that the model learns to answer without them.
        if part == "train" and _share("withhold", settings.seed, question) < settings.withhold:
            near = []
        examples.append(TrainingExample(question, tuple(near), row["rejected"]))
    return examples


def order_of(question: Question, epoch: int, settings: FinetuneSettings) -> tuple[int, ...]:
    """Return the order in which an epoch shows the choices of a question.

    The order is seeded, and rotated by one place per epoch. Over as many epochs as there are choices, the right choice
    is at each letter once, so that no letter can be learnt.

    Returns:
        Indices of the choices, in the order shown.
    """
    places = range(len(question.choices))
    if not settings.reorder or references_position(question.question, question.choices):
        return tuple(places)
    start = _random("order", settings.seed, question).permutation(len(places))
    return tuple(int(start[(place + epoch) % len(places)]) for place in places)


def sequence(tokenizer: Any, example: TrainingExample, order: Sequence[int], template: str) -> tuple[list[int], int]:
    """Encode an example with its choices in an order.

    Returns:
        The tokens of the prompt, and the token of the right letter.

    Raises:
        UserError: The letter is not one token of its own after the prompt.
    """
    question = example.question
    prompt = render(question, template, order, example.shown)
    right = letters(len(order))[list(order).index(letters(26).index(question.answer or ""))]
    text, tokens = chat_template.encode(tokenizer, prompt)
    token = chat_template.letter_token(tokenizer, text, tokens, prompt.before_letter + right)
    if token is None:
        raise UserError(
            f"{right} is not one token of its own after {template}; choose another", key="finetune.template"
        )
    return tokens, token


def letter_tokens(tokenizer: Any, example: TrainingExample, size: int, template: str) -> list[int]:
    """Return the tokens of those of the first `size` letters that are one token after a prompt."""
    prompt = render(example.question, template)
    text, tokens = chat_template.encode(tokenizer, prompt)
    ids = (chat_template.letter_token(tokenizer, text, tokens, prompt.before_letter + name) for name in letters(size))
    return [token for token in ids if token is not None]


def encode_sft(
    tokenizer: Any, examples: Sequence[TrainingExample], epoch: int | None, settings: FinetuneSettings
) -> tuple[list[Row], int]:
    """Encode examples for supervised fine-tuning, as sequences with the fields input_ids and labels; see `_encode`."""
    return _encode(partial(_sequence_row, tokenizer, settings), examples, epoch, settings)


def encode_preference(
    tokenizer: Any, examples: Sequence[TrainingExample], epoch: int | None, settings: FinetuneSettings
) -> tuple[list[Row], int]:
    """Encode examples as pairs with the fields prompt_ids, chosen_ids and rejected_ids; see `_encode`."""
    return _encode(partial(_pair_row, tokenizer, settings), examples, epoch, settings)


def _encode(
    row_of: Callable[[TrainingExample, Sequence[int]], Row | None],
    examples: Sequence[TrainingExample],
    epoch: int | None,
    settings: FinetuneSettings,
) -> tuple[list[Row], int]:
    """Encode examples in the order of the choices that an epoch shows.

    Args:
        row_of: Returns the row of an example in an order of the choices; None where it is too long.
        examples: Examples to train on.
        epoch: Epoch whose order of the choices is shown; None: the questions' own order.
        settings: The recipe's section `finetune`.

    Returns:
        The rows, and how many examples were too long.
    """
    rows = []
    for example in examples:
        plain = tuple(range(len(example.question.choices)))
        rows.append(row_of(example, plain if epoch is None else order_of(example.question, epoch, settings)))
    kept = [row for row in rows if row is not None]
    return kept, len(rows) - len(kept)


def _sequence_row(
    tokenizer: Any, settings: FinetuneSettings, example: TrainingExample, order: Sequence[int]
) -> Row | None:
    """Encode one sequence; where it is too long, the most distant neighbours are left out of the prompt first."""
    for first in range(len(example.shown) + 1):
        fewer = TrainingExample(example.question, example.shown[first:])
        tokens, letter = sequence(tokenizer, fewer, order, settings.template)
        if len(tokens) < settings.max_length:
            return {"input_ids": [*tokens, letter], "labels": [IGNORED] * len(tokens) + [letter]}
    return None


def _pair_row(tokenizer: Any, settings: FinetuneSettings, example: TrainingExample, order: Sequence[int]) -> Row | None:
    """Encode one preference pair, whose two sides differ by the letter alone."""
    assert example.rejected is not None
    wrong = replace(example.question, answer=letters(26)[example.rejected])
    tokens, letter = sequence(tokenizer, example, order, settings.template)
    _, other = sequence(tokenizer, TrainingExample(wrong), order, settings.template)
    if len(tokens) >= settings.max_length:
        return None
    return {"prompt_ids": tokens, "chosen_ids": [letter], "rejected_ids": [other]}


def build_epochs(
    tokenizer: Any,
    examples: Sequence[TrainingExample],
    settings: FinetuneSettings,
    encode: Callable[[Any, Sequence[TrainingExample], int | None, FinetuneSettings], tuple[list[Row], int]],
) -> tuple[list[Row], int]:
    """Encode the examples of all epochs.

    Args:
        tokenizer: The model's tokenizer.
        examples: Examples to train on.
        settings: The recipe's section `finetune`.
        encode: `encode_sft` or `encode_preference`.

    Returns:
        Rows of all epochs, in the order of training, and how many examples were too long in an epoch.
    """
    ordered: list[Row] = []
    rest: list[Row] = []
    dropped = 0
    for epoch in range(settings.epochs):
        rows, dropped = encode(tokenizer, examples, epoch, settings)
        whole, rest = by_length([*rest, *rows], settings.batch_size, digest("epoch", settings.seed, epoch))
        ordered += whole
    return [*ordered, *rest], dropped


def by_length(rows: Sequence[Row], batch: int, seed: str) -> tuple[list[Row], list[Row]]:
    """Shuffle rows so that each micro-batch holds sequences of about one length.

    Computing on padding is wasted, so pools of some micro-batches of shuffled rows are sorted and cut, and the
    micro-batches of a pool shuffled again.

    Args:
        rows: Sequences or preference pairs.
        batch: Rows in a micro-batch.
        seed: Seed of the order, in hex digits.

    Returns:
        The rows of whole micro-batches, and the rows that do not fill one. The latter belong to the next epoch: here
        they would shift the cuts of the micro-batches after them.
    """
    random = np.random.default_rng(int(seed, 16))
    mixed = [rows[number] for number in random.permutation(len(rows))]
    full = len(mixed) // batch * batch
    ordered = []
    for start in range(0, full, batch * _POOLED):
        pool = sorted(mixed[start : min(full, start + batch * _POOLED)], key=lambda row: max(map(len, row.values())))
        pieces = [pool[first : first + batch] for first in range(0, len(pool), batch)]
        ordered += [row for number in random.permutation(len(pieces)) for row in pieces[number]]
    return ordered, mixed[full:]


def _random(*parts: Any) -> np.random.Generator:
    """Return a generator that is seeded by names and, as the last part, a question."""
    *names, question = parts
    seed = digest(*names, question.question, question.choices, question.task_id)
    return np.random.default_rng(int(seed, 16))


def _share(name: str, seed: int, question: Question) -> float:
    """Return a seeded number in [0, 1) for a question."""
    return float(_random(name, seed, question).random())
