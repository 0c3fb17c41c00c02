"""Answering by transfer: the solved neighbours of a question say which of its choices is right.

Three things speak for a choice. What it collects from each neighbour: likeness to the right choice speaks for it, to a
wrong one against it, the more the nearer the neighbour. How often choices like it were right among the neighbours (a
kernel estimate over all of theirs). And how it stands among its rivals, as distractors are written around a right
choice: how like the others it is, how long, how it is laid out, what it shares with the question. A conditional logit
(McFadden 1974) over a question's choices turns these features into probabilities. Its weights are fitted on the
examples alone: each is answered by the others, its own copies left out.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codemmlu.dataset.dedup import normalised
from codemmlu.mcq import conditional_logit
from codemmlu.retrieval.index_store import TransferWeights
from codemmlu.schema import Question

Array = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]

# How fast a neighbour's say falls with its distance: one wide and one narrow kernel, exp(k (cosine - 1)).
_KERNELS = (4.0, 16.0)
# How fast the likeness of a choice to a neighbour's falls.
_LIKENESS = 8.0
# Kernels over pairs of choices: of the choices' cosine, and of their questions'.
_PAIRS = ((8.0, 12.0), (16.0, 4.0), (16.0, 12.0), (32.0, 0.0), (32.0, 12.0))
# Cosines at which a choice counts as unlike, and a question as far: what the pairs' estimate is shrunk by.
_UNLIKE, _FAR = 0.75, 0.7
_PENALTY = 3.0  # of the squared weights, in log-likelihood

_FORMS = ("same text", "likeness")
FEATURES = (
    *(f"{side}, {form}, kernel {kernel:g}" for kernel in _KERNELS for side in ("right", "wrong") for form in _FORMS),
    *(f"right among pairs, kernels {own:g} and {of_question:g}" for own, of_question in _PAIRS),
    *("like its rivals", "like one rival", "words of its rivals", "like the question", "words of the question"),
    *("length", "blanks", "longest", "shortest", "all or both of", "none of"),
)


@dataclass(frozen=True)
class RetrievedExample:
    """A neighbour: the example, its cosine to the question, and the vectors of its choices (n_choices, dimensions)."""

    example: Question
    similarity: float
    choice_vectors: Vectors


def features(
    question: Question, vector: Vectors, choice_vectors: Vectors, neighbours: Sequence[RetrievedExample]
) -> Array:
    """What speaks for each choice, shape (n_choices, len(FEATURES)), each feature centred over the choices.

    vector: of the question, (dimensions,); choice_vectors: of its choices, (n_choices, dimensions).
    """
    texts = [normalised(choice) for choice in question.choices]
    columns = [
        *_by_neighbour(texts, choice_vectors, neighbours),
        *_by_pair(choice_vectors, neighbours),
        *_among_rivals(question, texts, vector, choice_vectors),
    ]
    table = np.stack(columns, axis=1).astype(np.float64)
    centred: Array = table - table.mean(axis=0)
    return centred


def _by_neighbour(texts: Sequence[str], choice_vectors: Vectors, neighbours: Sequence[RetrievedExample]) -> list[Array]:
    """Same text as, and likeness to, the right and the likest wrong choice of neighbours, summed over them."""
    found = np.zeros((2, 2, len(texts), len(neighbours)))  # right or wrong, same text or likeness
    for column, neighbour in enumerate(neighbours):
        likeness = np.exp(_LIKENESS * (choice_vectors @ neighbour.choice_vectors.T - 1))
        theirs = [normalised(choice) for choice in neighbour.example.choices]
        answer = answer_of(neighbour.example)
        others = [i for i in range(len(theirs)) if i != answer]
        for row, text in enumerate(texts):
            found[0, 0, row, column] = text == theirs[answer]
            found[1, 0, row, column] = any(text == theirs[i] for i in others)
        found[0, 1, :, column] = likeness[:, answer]
        found[1, 1, :, column] = likeness[:, others].max(axis=1)
    nearness = np.array([neighbour.similarity for neighbour in neighbours])
    weights = [np.exp(kernel * (nearness - 1)) for kernel in _KERNELS]
    return [found[side, form] @ weight for weight in weights for side in (0, 1) for form in (0, 1)]


def _by_pair(choice_vectors: Vectors, neighbours: Sequence[RetrievedExample]) -> list[Array]:
    """How much likelier than by chance choices like this one were right (Nadaraya 1964, Watson 1964, shrunk)."""
    if not neighbours:
        return [np.zeros(len(choice_vectors))] * len(_PAIRS)
    theirs = np.concatenate([neighbour.choice_vectors for neighbour in neighbours])
    sizes = [len(neighbour.choice_vectors) for neighbour in neighbours]
    nearness = np.repeat([neighbour.similarity for neighbour in neighbours], sizes)
    right = np.concatenate(
        [np.eye(n)[answer_of(one.example)] - 1 / n for n, one in zip(sizes, neighbours, strict=True)]
    )
    cosines = choice_vectors @ theirs.T
    columns = []
    for own, of_question in _PAIRS:
        weight = np.exp(own * (cosines - 1) + of_question * (nearness - 1))
        shrink = np.exp(own * (_UNLIKE - 1) + of_question * (_FAR - 1))
        columns.append((weight @ right) / (weight.sum(axis=1) + shrink))
    return columns


def _among_rivals(question: Question, texts: Sequence[str], vector: Vectors, choice_vectors: Vectors) -> list[Array]:
    """How a choice stands among the question's other choices."""
    rivals = len(texts) - 1
    likeness = choice_vectors @ choice_vectors.T - 2 * np.eye(len(texts))  # itself: the least like of all
    words = [set(re.findall(r"\w+", text)) for text in texts]
    asked = set(re.findall(r"\w+", question.question.lower()))
    shared = [
        sum(len(mine & other) / (len(mine | other) + 1) for j, other in enumerate(words) if i != j) / rivals
        for i, mine in enumerate(words)
    ]
    length = np.log([len(choice) + 1 for choice in question.choices])
    return [
        (likeness.sum(axis=1) + 1) / rivals,
        likeness.max(axis=1),
        np.array(shared),
        choice_vectors @ vector,
        np.array([len(mine & asked) / (len(mine) + 1) for mine in words]),
        length,
        length - np.log([len(text) + 1 for text in texts]),
        length == length.max(),
        length == length.min(),
        np.array([re.search(r"\ball (of )?the|\ball of|\bboth\b", text) is not None for text in texts]),
        np.array(["none of" in text for text in texts]),
    ]


def answer_of(example: Question) -> int:
    """The place of an example's right choice."""
    assert example.answer is not None, "an example has an answer"
    return ord(example.answer) - ord("A")


def log_probabilities(table: Array, weights: TransferWeights) -> Array:
    """Natural log-probabilities of the choices, shape (n_choices,)."""
    scores = (table / np.array(weights.scales)) @ np.array(weights.weights)
    shifted = scores - scores.max()
    result: Array = shifted - np.log(np.exp(shifted).sum())
    return result


def fit(tables: Sequence[Array], right: Sequence[int], seed: int, left_out: str = "") -> TransferWeights:
    """The weights that make the right choices of solved questions likeliest, a little shrunk towards zero."""
    stacked = np.concatenate(tables)
    # A feature that never differs says nothing: its scale only has to be no zero.
    scales = np.where((spread := stacked.std(axis=0)) > 1e-9, spread, 1.0)
    found = conditional_logit.fit(stacked / scales, [len(table) for table in tables], right, ridge=_PENALTY)
    return TransferWeights(
        features=FEATURES,
        scales=tuple(map(float, scales)),
        weights=tuple(map(float, found)),
        fitted_on=len(tables),
        seed=seed,
        left_out=left_out,
    )
