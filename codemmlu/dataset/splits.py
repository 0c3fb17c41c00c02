"""The split of the labelled examples into three parts.

train is trained on, tune decides when training stops, and fit is what everything else is fitted on.
"""

import hashlib
from collections.abc import Sequence
from typing import Literal

from codemmlu.dataset.dedup import near_duplicate_groups
from codemmlu.recipe import digest
from codemmlu.schema import Question

Part = Literal["train", "tune", "fit"]
# Shares of the examples. They divide the line from 0 to 1 in this order, and a group's hash is a point on the line.
SHARES: tuple[tuple[Part, float], ...] = (("train", 0.75), ("tune", 0.10), ("fit", 0.15))


def assign(examples: Sequence[Question], seed: int) -> list[Part]:
    """Return the part of each example, by a seeded hash of its text and choices.

    Near-duplicates are in one part together. The parts depend neither on the order of the examples nor on their
    task_ids.
    """
    hashes = [digest("part", seed, example.question, example.choices) for example in examples]
    least: dict[int, str] = {}
    groups = near_duplicate_groups(examples)
    for group, value in zip(groups, hashes, strict=True):
        least[group] = min(value, least.get(group, value))
    return [_part(least[group]) for group in groups]


def _part(group_hash: str) -> Part:
    point = int.from_bytes(hashlib.sha256(group_hash.encode()).digest()[:8]) / 2**64
    for part, share in SHARES:
        if point < share:
            return part
        point -= share
    return SHARES[-1][0]
