"""Batches: the sequences of a micro-batch as tensors, padded to one length, or packed without padding.

Packed sequences form a prefix tree: what two of them begin with alike (the instructions, the text of a question that
is shown in several orders) is computed once. A token sees the tokens on the way from the root to itself, at the
positions that they have in the sequence, so that every number is the one that the sequence alone would give.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from codemmlu.training.encoding import Row

# Tokens of one packed row, unless one sequence is longer: attention grows with the square of a row.
_ROW = 1024

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Collator:
    """Makes a batch of rows.

    A batch holds `input_ids`, `position_ids` and `attention_mask` for the model; `nodes`, the places of each sequence's
    tokens in the flattened input, -1 behind its end, shape (sequences, most tokens); `labels`, the token of the right
    letter of each sequence; and, where rows have them, `letter_ids`, `order` and `shares`, shape (sequences, most
    letters), padded with -1 and 0.

    Attributes:
        packing: Whether sequences are packed into rows without padding.
        pad: The token that rows are filled up with.
    """

    packing: bool = False
    pad: int = 0

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """Return the batch of some rows of `encoding.encode_sft`; the letter itself is no input."""
        prompts = [row["input_ids"][:-1] for row in rows]
        batch = _packed(prompts, self.pad) if self.packing else _padded(prompts, self.pad)
        batch["labels"] = torch.tensor([row["labels"][-1] for row in rows])
        for name, filler in (("letter_ids", -1), ("order", -1), ("shares", 0.0)):
            if all(row.get(name) for row in rows):
                batch[name] = torch.tensor(_rectangle([row[name] for row in rows], filler))
        return batch


def _padded(prompts: Sequence[Sequence[int]], pad: int) -> Batch:
    longest = max(map(len, prompts))
    nodes = [[row * longest + place for place in range(len(prompt))] for row, prompt in enumerate(prompts)]
    return {
        "input_ids": torch.tensor(_rectangle(prompts, pad)),
        "attention_mask": torch.tensor(_rectangle([[1] * len(prompt) for prompt in prompts], 0)),
        "nodes": torch.tensor(_rectangle(nodes, -1)),
    }


@dataclass
class _Tree:
    """The prefix tree of one packed row: tokens and their parents, in the order in which they were added."""

    tokens: list[int]
    parents: list[int]
    positions: list[int]
    children: dict[tuple[int, int], int]

    def add(self, prompt: Sequence[int]) -> list[int]:
        """Add a sequence, and return the places of its tokens."""
        place, path = -1, []
        for position, token in enumerate(prompt):
            found = self.children.get((place, token))
            if found is None:
                found = self.children[place, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(place)
                self.positions.append(position)
            path.append(place := found)
        return path

    def new(self, prompt: Sequence[int]) -> int:
        """Return how many tokens a sequence would add."""
        place = -1
        for known, token in enumerate(prompt):
            found = self.children.get((place, token))
            if found is None:
                return len(prompt) - known
            place = found
        return 0

    def mask(self, size: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return which tokens each token sees, shape (size, size)."""
        seen = np.zeros((size, size), dtype=bool)
        for place, parent in enumerate(self.parents):
            if parent >= 0:
                seen[place] = seen[parent]
            seen[place, place] = True
        rest = range(len(self.tokens), size)
        seen[rest, rest] = True  # A softmax over nothing is not a number.
        return seen


def _packed(prompts: Sequence[Sequence[int]], pad: int) -> Batch:
    trees, paths = _rows(prompts)
    longest = max(len(tree.tokens) for tree in trees)
    nodes = [[row * longest + place for place in path] for row, path in paths]
    return {
        "input_ids": torch.tensor(_rectangle([tree.tokens for tree in trees], pad)),
        "position_ids": torch.tensor(_rectangle([tree.positions for tree in trees], 0)),
        "attention_mask": torch.from_numpy(np.stack([tree.mask(longest) for tree in trees])[:, None]),
        "nodes": torch.tensor(_rectangle(nodes, -1)),
    }


# The trees of all rows, and the row and the places of each sequence.
_Rows = tuple[list[_Tree], list[tuple[int, list[int]]]]


def _rows(prompts: Sequence[Sequence[int]]) -> _Rows:
    """Divide sequences into rows, of which a short last one would be filled up with padding."""
    first = _divided(prompts, _ROW)
    even = sum(len(tree.tokens) for tree in first[0]) / len(first[0])
    candidates = [first, *(_divided(prompts, round(even * share)) for share in (1.0, 1.1, 1.25) if len(first[0]) > 1)]
    return min(candidates, key=lambda rows: len(rows[0]) * max(len(tree.tokens) for tree in rows[0]))


def _divided(prompts: Sequence[Sequence[int]], most: int) -> _Rows:
    """Divide sequences into rows of at most so many tokens, or of one sequence."""
    trees: list[_Tree] = []
    paths: list[tuple[int, list[int]]] = []
    for prompt in prompts:  # The orders of one question follow one another.
        if not trees or len(trees[-1].tokens) + trees[-1].new(prompt) > most:
            trees.append(_Tree([], [], [], {}))
        paths.append((len(trees) - 1, trees[-1].add(prompt)))
    return trees, paths


def _rectangle(rows: Sequence[Sequence[Any]], filler: float) -> list[list[Any]]:
    longest = max(map(len, rows))
    return [[*row, *[filler] * (longest - len(row))] for row in rows]


def lengths_of(batch: Batch) -> torch.Tensor:
    """Return the tokens of each sequence of a batch, shape (sequences,)."""
    return (batch["nodes"] >= 0).sum(dim=1)
