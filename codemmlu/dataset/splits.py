"""The split of the labelled examples: what is trained on, what training is stopped by, what all else is fitted on."""

import hashlib
from collections.abc import Sequence
from typing import Literal

from codemmlu.dataset.dedup import near_duplicate_groups
from codemmlu.recipe import digest
from codemmlu.schema import Question

Part = Literal["train", "tune", "fit"]
# Shares of the examples, in the order of the line from 0 to 1 on which a group's hash is a place.
SHARES: tuple[tuple[Part, float], ...] = (("train", 0.75), ("tune", 0.10), ("fit", 0.15))


def assign(examples: Sequence[Question], seed: int) -> list[Part]:
    """Each example's part, by a seeded hash of what it says; near-duplicates are in one part together.

    Depends neither on the order of the examples nor on their task_ids.
    """
    hashes = [digest("part", seed, example.question, example.choices) for example in examples]
    least: dict[int, str] = {}
    groups = near_duplicate_groups(examples)
    for group, its in zip(groups, hashes, strict=True):
        least[group] = min(its, least.get(group, its))
    return [_part(least[group]) for group in groups]


def _part(name: str) -> Part:
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
    for part, share in SHARES:
        if place < share:
            return part
        place -= share
    return SHARES[-1][0]
