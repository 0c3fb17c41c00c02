"""The choice among the nearest examples: those a question may see, in what order. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codemmlu.dataset.dedup import TWINS
from codemmlu.recipe import ExampleSettings

Vectors = npt.NDArray[np.float32]

# Digits of a cosine that count. Digits beyond depend on the other texts of the batch, and the order must not.
DIGITS = 5


@dataclass(frozen=True)
class Candidate:
    """An example near a question.

    Attributes:
        row: Row of the example, counted over all shards of the index.
        similarity: Cosine of the example and the question.
        task_id: The example's task_id.
        twin: The example's content key, which is equal for equal texts.
    """

    row: int
    similarity: float
    task_id: str
    twin: str


@dataclass(frozen=True)
class SelectionPolicy:
    """The examples that a question may see: the fields of ExampleSettings, with `exclude` resolved."""

    exclude: str
    near_duplicates: str
    min_similarity: float
    diversity: float

    @classmethod
    def of(cls, settings: ExampleSettings, labelled: bool) -> "SelectionPolicy":
        """Return the policy of a recipe, for questions that are `labelled` or not."""
        # Where questions carry labels, an example with the same text would give the label away.
        exclude = settings.exclude or ("same" if labelled else "task_id")
        return cls(exclude, settings.near_duplicates, settings.min_similarity, settings.diversity)


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Sort candidates by similarity, nearest first; equally near ones by their rows in the index."""
    return sorted(candidates, key=lambda c: (-round(c.similarity, DIGITS), c.row))


def filter_candidates(
    policy: SelectionPolicy, task_id: str, twin: str, candidates: Sequence[Candidate]
) -> list[Candidate]:
    """Return the candidates that the question with this task_id and content key may see, in their order."""

    def may(candidate: Candidate) -> bool:
        if candidate.task_id == task_id or candidate.similarity < policy.min_similarity:
            return False
        if policy.exclude == "same" and candidate.twin == twin:
            return False
        return policy.near_duplicates == "keep" or candidate.similarity < TWINS

    return [candidate for candidate in candidates if may(candidate)]


def diverse(candidates: Sequence[Candidate], vectors: Vectors, diversity: float, most: int) -> list[Candidate]:
    """Select candidates by maximal marginal relevance (Carbonell and Goldstein 1998).

    Each step takes the candidate with the highest (1 - diversity) x similarity to the question - diversity x greatest
    similarity to a candidate that was taken before.

    Args:
        candidates: The candidates, nearest first.
        vectors: Vectors of the candidates, shape (n_candidates, dimensions).
        diversity: Weight of the difference among the selected, in [0, 1).
        most: The most candidates to select.

    Returns:
        The selected candidates, nearest first.
    """
    taken: list[int] = []
    likeness = np.zeros(len(candidates))
    near = np.array([candidate.similarity for candidate in candidates])
    for _ in range(min(most, len(candidates))):
        worth = (1 - diversity) * near - diversity * likeness
        worth[taken] = -np.inf
        best = int(np.round(worth, DIGITS).argmax())
        taken.append(best)
        likeness = np.maximum(likeness, vectors @ vectors[best])
    return ranked([candidates[i] for i in taken])
