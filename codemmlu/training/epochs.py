"""The epochs of a training: every example in its orders, sampled by kind, in micro-batches of about one length.

The order follows from the examples and the settings, so that an interrupted training goes on in the same order.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codemmlu.dataset.kind import kind_of
from codemmlu.recipe import FinetuneSettings, digest
from codemmlu.training.encoding import Row, TrainingExample, share_of

_POOLED = 16  # micro-batches that are sorted by length together

Encode = Callable[[Any, Sequence[TrainingExample], int | None, FinetuneSettings], tuple[list[Row], int]]


def build_epochs(
    tokenizer: Any, examples: Sequence[TrainingExample], settings: FinetuneSettings, encode: Encode
) -> tuple[list[Row], int]:
    """Encode the examples of all epochs.

    Args:
        tokenizer: The model's tokenizer.
        examples: Examples to train on.
        settings: The recipe's section `finetune`.
        encode: `encode_sft` or `encode_preference`.

    Returns:
        Rows of all epochs, in the order of training, and how many examples were too long in an epoch. All orders of an
        example in an epoch follow one another, in one micro-batch.
    """
    ordered: list[Row] = []
    rest: list[Row] = []
    dropped = 0
    for epoch in range(settings.epochs):
        rows: list[Row] = []
        dropped = 0
        for copy, sampled in enumerate(sampled_by_kind(examples, epoch, settings)):
            # Further copies of an example in one epoch show orders that its other epochs leave out.
            encoded, too_long = encode(tokenizer, sampled, epoch + copy * settings.epochs, settings)
            rows, dropped = [*rows, *encoded], dropped + too_long * (copy == 0)
        seed = digest("epoch", settings.seed, epoch)
        whole, rest = by_length([*rest, *rows], settings.batch_size, seed, settings.orders)
        ordered += whole
    return [*ordered, *rest], dropped


def sampled_by_kind(
    examples: Sequence[TrainingExample], epoch: int, settings: FinetuneSettings
) -> list[Sequence[TrainingExample]]:
    """Return the copies of the examples that an epoch shows: in each copy every example at most once.

    A weight of 2.5 gives two copies, and a third one to half of the examples, to other ones in each epoch.
    """
    if not settings.kind_weights:
        return [examples]
    weights: dict[str, float] = defaultdict(lambda: 1.0, settings.kind_weights.items())
    times = [
        math.floor(weight + share_of(f"sample {epoch}", settings.seed, example.question))
        for example in examples
        for weight in [weights[kind_of(example.question)]]
    ]
    copies = range(max(times, default=0))
    return [[example for example, count in zip(examples, times, strict=True) if count > copy] for copy in copies]


def by_length(rows: Sequence[Row], batch: int, seed: str, together: int = 1) -> tuple[list[Row], list[Row]]:
    """Shuffle rows so that each micro-batch holds sequences of about one length.

    Computing on padding is wasted, so pools of some micro-batches of shuffled rows are sorted and cut, and the
    micro-batches of a pool shuffled again.

    Args:
        rows: Sequences or preference pairs.
        batch: Rows in a micro-batch.
        seed: Seed of the order, in hex digits.
        together: Consecutive rows that stay together; it divides `batch`.

    Returns:
        The rows of whole micro-batches, and the rows that do not fill one. The latter belong to the next epoch: here
        they would shift the cuts of the micro-batches after them.
    """
    units = [rows[first : first + together] for first in range(0, len(rows), together)]
    size = batch // together
    random = np.random.default_rng(int(seed, 16))
    mixed = [units[number] for number in random.permutation(len(units))]
    full = len(mixed) // size * size
    ordered = []
    for start in range(0, full, size * _POOLED):
        pool = sorted(mixed[start : min(full, start + size * _POOLED)], key=_length)
        pieces = [pool[first : first + size] for first in range(0, len(pool), size)]
        ordered += [row for number in random.permutation(len(pieces)) for unit in pieces[number] for row in unit]
    return ordered, [row for unit in mixed[full:] for row in unit]


def _length(unit: Sequence[Row]) -> int:
    return max(max(map(len, row.values())) for row in unit)
