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
# in the same table, nearest first, `rejected` is the index of the wrong choice that the model likes best, for
# preference tuning, and `taught` are a teacher's probabilities of the choices.
LESSON = (
    QUESTION.append(pa.field("part", pa.string()))
    .append(pa.field("neighbours", pa.list_(pa.int32())))
    .append(pa.field("rejected", pa.int32()))
    .append(pa.field("taught", pa.list_(pa.float64())))
)
IGNORED = -100  # the label of a token that carries no loss

# The fields of one sequence or preference pair: token ids, and for soft labels the letters' shares.
Row = dict[str, list[Any]]


@dataclass(frozen=True)
class TrainingExample:
    """An example to train on.

    Attributes:
        question: The solved question.
        shown: Solved questions that the prompt shows before, nearest last.
        rejected: For preference tuning, the index of the wrong choice that the model likes best.
        taught: A teacher's probabilities of the choices; None without a teacher, or where the teacher has none.
    """

    question: Question
    shown: tuple[Question, ...] = ()
    rejected: int | None = None
    taught: tuple[float, ...] | None = None


def examples_to_table(
    examples: Sequence[Question],
    parts: Sequence[str],
    neighbours: Sequence[Sequence[int]],
    rejected: Mapping[int, int],
    taught: Mapping[int, Sequence[float]] | None = None,
) -> pa.Table:
    """Make a LESSON table of examples.

    Args:
        examples: Solved questions.
        parts: Part of each example.
        neighbours: For each example, the indices of its neighbours in `examples`.
        rejected: For preference tuning, the index of an example to that of the rejected choice.
        taught: For distillation, the index of an example to the teacher's probabilities of the choices.

    Returns:
        One row per example, in the order of the examples.
    """
    rows = [
        {
            **{name: getattr(example, name) for name in QUESTION.names},
            "part": part,
            "neighbours": list(near),
            "rejected": rejected.get(row),
            "taught": None if taught is None or row not in taught else list(taught[row]),
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
        if part == "train" and share_of("withhold", settings.seed, question) < settings.withhold:
            near = []
        taught = None if row["taught"] is None else tuple(row["taught"])
        examples.append(TrainingExample(question, tuple(near), row["rejected"], taught))
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


def sequence(
    tokenizer: Any, example: TrainingExample, order: Sequence[int], template: str, every: bool = False
) -> tuple[list[int], list[int | None]]:
    """Encode an example with its choices in an order.

    Args:
        tokenizer: The model's tokenizer.
        example: The example.
        order: The order of the choices.
        template: A name in TEMPLATES.
        every: Whether the tokens of all letters are wanted, each of which takes as long as the prompt.

    Returns:
        The tokens of the prompt, and the tokens of the letters: of the right one, or of all; None for any other, and
        for one that is not one token of its own.

    Raises:
        UserError: The right letter is not one token of its own after the prompt.
    """
    question = example.question
    prompt = render(question, template, order, example.shown)
    text, tokens = chat_template.encode(tokenizer, prompt)
    names, right = letters(len(order)), right_letter(question, order)
    ids = [
        chat_template.letter_token(tokenizer, text, tokens, prompt.before_letter + name)
        if every or number == right
        else None
        for number, name in enumerate(names)
    ]
    if ids[right] is None:
        raise UserError(
            f"{names[right]} is not one token of its own after {template}; choose another", key="finetune.template"
        )
    return tokens, ids


def right_letter(question: Question, order: Sequence[int]) -> int:
    """Return the index of the letter at which an order shows the right choice."""
    return list(order).index(letters(26).index(question.answer or ""))


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
    """Encode examples in the orders of the choices that an epoch shows.

    Args:
        row_of: Returns the row of an example in an order of the choices; None where it is too long.
        examples: Examples to train on.
        epoch: Epoch whose orders of the choices are shown; None: the questions' own order.
        settings: The recipe's section `finetune`.

    Returns:
        The rows, those of one example after another, and how many examples were too long.
    """
    kept: list[Row] = []
    dropped = 0
    for example in examples:
        orders: list[tuple[int, ...]] = [tuple(range(len(example.question.choices)))]
        if epoch is not None:
            first = epoch * settings.orders
            orders = [order_of(example.question, first + number, settings) for number in range(settings.orders)]
        rows = [row_of(example, order) for order in orders]
        whole = [row for row in rows if row is not None]
        # An example that is too long in one order leaves in all of them, as a step compares its orders.
        kept, dropped = (kept + whole, dropped) if len(whole) == len(rows) else (kept, dropped + 1)
    return kept, dropped


def _sequence_row(
    tokenizer: Any, settings: FinetuneSettings, example: TrainingExample, order: Sequence[int]
) -> Row | None:
    """Encode one sequence; where it is too long, the most distant neighbours are left out of the prompt first."""
    for first in range(len(example.shown) + 1):
        fewer = replace(example, shown=example.shown[first:])
        tokens, ids = sequence(tokenizer, fewer, order, settings.template, _needs_letters(settings))
        if len(tokens) < settings.max_length:
            letter = ids[right_letter(example.question, order)]
            row = {"input_ids": [*tokens, letter], "labels": [IGNORED] * len(tokens) + [letter]}
            return row | _of_letters(example, order, ids, settings)
    return None


def _of_letters(
    example: TrainingExample, order: Sequence[int], ids: Sequence[int | None], settings: FinetuneSettings
) -> Row:
    """Return what a loss over all letters needs of a sequence: their tokens, choices and shares of the label.

    Raises:
        UserError: A letter is not one token of its own after the prompt.
    """
    if not _needs_letters(settings):
        return {}
    if None in ids:
        name = letters(26)[list(ids).index(None)]
        raise UserError(
            f"{name} is not one token of its own after {settings.template}, which label_smoothing, teacher and "
            "consistency need; choose another",
            key="finetune.template",
        )
    shares = soft_label(example, settings)
    return {"letter_ids": list(ids), "order": list(order), "shares": [shares[choice] for choice in order]}


def _needs_letters(settings: FinetuneSettings) -> bool:
    return settings.has_soft_labels or settings.consistency > 0


def soft_label(example: TrainingExample, settings: FinetuneSettings) -> list[float]:
    """Return the share of each choice in the label of an example: of the key, of the teacher, of all equally.

    Returns:
        Shares that sum to 1. The teacher's probabilities are flattened by its temperature (Hinton et al. 2015,
        arXiv:1503.02531); label smoothing takes a part of the result (Szegedy et al. 2016, arXiv:1512.00567).
    """
    size = len(example.question.choices)
    shares = np.eye(size)[letters(26).index(example.question.answer or "")]
    if settings.teacher and example.taught is not None:
        logs = np.log(np.maximum(example.taught, 1e-12)) / settings.teacher.temperature
        taught = np.exp(logs - logs.max())
        shares = (1 - settings.teacher.weight) * shares + settings.teacher.weight * taught / taught.sum()
    smoothed = (1 - settings.label_smoothing) * shares + settings.label_smoothing / size
    return [float(share) for share in smoothed]


def _pair_row(tokenizer: Any, settings: FinetuneSettings, example: TrainingExample, order: Sequence[int]) -> Row | None:
    """Encode one preference pair, whose two sides differ by the letter alone."""
    assert example.rejected is not None
    wrong = replace(example.question, answer=letters(26)[example.rejected])
    tokens, ids = sequence(tokenizer, example, order, settings.template)
    _, others = sequence(tokenizer, TrainingExample(wrong), order, settings.template)
    if len(tokens) >= settings.max_length:
        return None
    chosen, rejected = ids[right_letter(example.question, order)], others[right_letter(wrong, order)]
    return {"prompt_ids": tokens, "chosen_ids": [chosen], "rejected_ids": [rejected]}


def _random(*parts: Any) -> np.random.Generator:
    """Return a generator that is seeded by names and, as the last part, a question."""
    *names, question = parts
    seed = digest(*names, question.question, question.choices, question.task_id)
    return np.random.default_rng(int(seed, 16))


def share_of(name: str, seed: int, question: Question) -> float:
    """Return a seeded number in [0, 1) for a question."""
    return float(_random(name, seed, question).random())
