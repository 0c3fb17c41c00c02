"""Which of the nearest examples a question may see, and in what order: pure functions of similarities."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval.texts import TWINS

Vectors = npt.NDArray[np.float32]

# Digits of a cosine that count: beyond these it depends on what else was in the batch, and order must not.
DIGITS = 5


@dataclass(frozen=True)
class Candidate:
    """An example near a question: where it stands in the index, how near, and what tells it apart from others."""

    row: int
    similarity: float
    task_id: str
    twin: str


@dataclass(frozen=True)
class SelectionPolicy:
    """Which examples a question may see. See ExampleSettings for what the fields mean; `exclude` is resolved."""

    exclude: str
    near_duplicates: str
    min_similarity: float
    diversity: float

    @classmethod
    def of(cls, settings: ExampleSettings, labelled: bool) -> "SelectionPolicy":
        """The recipe's rule. Where questions carry labels, an example with the same text would give them away."""
        exclude = settings.exclude or ("same" if labelled else "task_id")
        return cls(exclude, settings.near_duplicates, settings.min_similarity, settings.diversity)


def ranked(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Nearest first; of equally near ones the first in the index."""
    return sorted(candidates, key=lambda c: (-round(c.similarity, DIGITS), c.row))


def filter_candidates(
    rule: SelectionPolicy, task_id: str, twin: str, candidates: Sequence[Candidate]
) -> list[Candidate]:
    """Candidates that the question with this task_id and text may see, in their order."""

    def may(candidate: Candidate) -> bool:
        if candidate.task_id == task_id or candidate.similarity < rule.min_similarity:
            return False
        if rule.exclude == "same" and candidate.twin == twin:
            return False
        return rule.near_duplicates == "keep" or candidate.similarity < TWINS

    return [candidate for candidate in candidates if may(candidate)]


def diverse(candidates: Sequence[Candidate], vectors: Vectors, diversity: float, most: int) -> list[Candidate]:
    """The first `most` by maximal marginal relevance (Carbonell and Goldstein 1998), nearest first.

    vectors: of the candidates, shape (n_candidates, dimensions). Each next one is the nearest to the question, less
    `diversity` times its likeness to what was taken before.
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
