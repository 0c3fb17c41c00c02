"""Answering by transfer: the solved neighbours of a question say which of its choices is right.

Each choice is compared with every neighbour's right choice (for it) and wrong choices (against it), by text and by
embedding, and what it collects is weighted by how near the neighbour is. A conditional logit (McFadden 1974) over a
question's choices turns these features into probabilities. Its few weights are fitted on the examples alone: each is
answered by the others, its own copies left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codemmlu.retrieval.store import Weights
from codemmlu.retrieval.texts import normalised
from codemmlu.rows import Question

Array = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

# How fast a neighbour's say falls with its distance: one wide and one narrow kernel, exp(k (cosine - 1)).
_KERNELS = (4.0, 16.0)
# How fast the likeness of two choices falls.
_LIKENESS = 8.0
_PENALTY = 3.0  # of the squared weights, in log-likelihood


@dataclass(frozen=True)
class Solved:
    """A neighbour: the example, its cosine to the question, and the vectors of its choices (n_choices, dimensions)."""

    example: Question
    similarity: float
    choice_vectors: Vectors


def features(question: Question, vector: Vectors, choice_vectors: Vectors, neighbours: Sequence[Solved]) -> Array:
    """What speaks for each choice, shape (n_choices, n_features), each feature centred over the choices.

    vector: of the question, (dimensions,); choice_vectors: of its choices, (n_choices, dimensions).
    """
    texts = [normalised(choice) for choice in question.choices]
    columns = [np.log([len(text) + 1 for text in texts]), choice_vectors @ vector]
    right, wrong = _evidence(texts, choice_vectors, neighbours)
    nearness = np.array([neighbour.similarity for neighbour in neighbours])
    for kernel in _KERNELS:
        weight = np.exp(kernel * (nearness - 1))
        columns += [evidence @ weight for evidence in (*right, *wrong)]
    table = np.stack(columns, axis=1).astype(np.float64)
    centred: Array = table - table.mean(axis=0)
    return centred


def _evidence(
    texts: Sequence[str], choice_vectors: Vectors, neighbours: Sequence[Solved]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """For the right and for the wrong choices of neighbours: same text and likeness, each (n_choices, n_neighbours)."""
    shape = (2, 2, len(texts), len(neighbours))
    found = np.zeros(shape)
    for column, neighbour in enumerate(neighbours):
        likeness = np.exp(_LIKENESS * (choice_vectors @ neighbour.choice_vectors.T - 1))
        theirs = [normalised(choice) for choice in neighbour.example.choices]
        answer = ord(neighbour.example.answer or "A") - ord("A")
        others = [i for i in range(len(theirs)) if i != answer]
        for row, text in enumerate(texts):
            found[0, 0, row, column] = text == theirs[answer]
            found[1, 0, row, column] = any(text == theirs[i] for i in others)
        found[0, 1, :, column] = likeness[:, answer]
        found[1, 1, :, column] = likeness[:, others].max(axis=1)
    return (found[0, 0], found[0, 1]), (found[1, 0], found[1, 1])


def log_probabilities(table: Array, weights: Weights) -> Array:
    """Natural log-probabilities of the choices, shape (n_choices,)."""
    scores = (table / np.array(weights.scales)) @ np.array(weights.weights)
    shifted = scores - scores.max()
    result: Array = shifted - np.log(np.exp(shifted).sum())
    return result


def fit(tables: Sequence[Array], right: Sequence[int], seed: int) -> Weights:
    """The weights that make the right choices of solved questions likeliest, a little shrunk towards zero."""
    from scipy import optimize  # slow to import, and only making an index needs it

    width = tables[0].shape[1] if tables else 2 + 4 * len(_KERNELS)
    if not tables:
        return Weights(scales=(1.0,) * width, weights=(0.0,) * width, fitted_on=0, seed=seed)
    stacked = np.concatenate(tables)
    scales = np.maximum(stacked.std(axis=0), 1e-9)
    starts = np.cumsum([0, *(len(table) for table in tables[:-1])])
    chosen = starts + np.array(right)
    scaled = stacked / scales
    sizes = [len(table) for table in tables]

    def loss(weights: Array) -> tuple[float, Array]:
        scores = scaled @ weights
        top = np.repeat(np.maximum.reduceat(scores, starts), sizes)
        exponents = np.exp(scores - top)
        total = np.repeat(np.add.reduceat(exponents, starts), sizes)
        probabilities = exponents / total
        likelihood = (scores - top - np.log(total))[chosen].sum()
        gradient = scaled.T @ probabilities - scaled[chosen].sum(axis=0)
        return float(_PENALTY * weights @ weights - likelihood), gradient + 2 * _PENALTY * weights

    found = optimize.minimize(loss, np.zeros(width), jac=True, method="L-BFGS-B")
    return Weights(
        scales=tuple(map(float, scales)), weights=tuple(map(float, found.x)), fitted_on=len(tables), seed=seed
    )
