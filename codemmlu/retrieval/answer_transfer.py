"""Answer transfer: the solved neighbours of a question predict the question's right choice.

Three kinds of features describe a choice. The first compares the choice with the choices of each neighbour: similarity
to the right choice counts for it and similarity to a wrong choice against it, the more the nearer the neighbour. The
second is how often similar choices were right among the neighbours (a kernel estimate over all of their choices). The
third compares the choice with the question's other choices, as distractors are written around a right choice: how
similar it is to them, its length and layout, and what it shares with the question.

A conditional logit (McFadden 1974) over a question's choices turns these features into probabilities. The weights of
the logit are fitted on the examples alone: each example is answered by the others, without its own copies.
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

# How fast the weight of a neighbour falls with its distance: one wide and one narrow kernel, exp(k (cosine - 1)).
_KERNELS = (4.0, 16.0)
# How fast the similarity of a choice to a neighbour's choice falls with their distance, by the same kernel.
_LIKENESS = 8.0
# Kernels over pairs of choices: one of the cosine of the two choices, one of the cosine of their two questions.
_PAIRS = ((8.0, 12.0), (16.0, 4.0), (16.0, 12.0), (32.0, 0.0), (32.0, 12.0))
# Cosines at which a choice counts as dissimilar and a question as distant. The kernel weight of such a pair is added to
# the denominator of the estimate over pairs, which shrinks the estimate towards zero.
_UNLIKE, _FAR = 0.75, 0.7
_PENALTY = 3.0  # on the squared weights, in log-likelihood

_FORMS = ("same text", "likeness")
FEATURES = (
    *(f"{side}, {form}, kernel {kernel:g}" for kernel in _KERNELS for side in ("right", "wrong") for form in _FORMS),
    *(f"right among pairs, kernels {own:g} and {of_question:g}" for own, of_question in _PAIRS),
    *("like its rivals", "like one rival", "words of its rivals", "like the question", "words of the question"),
    *("length", "blanks", "longest", "shortest", "all or both of", "none of"),
)


@dataclass(frozen=True)
class RetrievedExample:
    """An example that was retrieved for a question, a neighbour of the question.

    Attributes:
        example: The solved question.
        similarity: Cosine of the example and the question.
        choice_vectors: Vectors of the example's choices, shape (n_choices, dimensions).
    """

    example: Question
    similarity: float
    choice_vectors: Vectors


@dataclass(frozen=True)
class Neighbours:
    """The examples near one question.

    Attributes:
        question: The question.
        vector: Vector of the question, shape (dimensions,).
        solved: The retrieved examples, nearest first, at most as many as were wanted.
        nearest: Similarity of the nearest example except for the question itself, whether the question may see it or
            not; None: there is no other example.
        verbatim: Whether an example other than the question has the same text, whether the question may see it or not.
    """

    question: Question
    vector: npt.NDArray[np.float32]
    solved: tuple[RetrievedExample, ...]
    nearest: float | None
    verbatim: bool


def features(
    question: Question, vector: Vectors, choice_vectors: Vectors, neighbours: Sequence[RetrievedExample]
) -> Array:
    """Compute the features of each choice of a question.

    Args:
        question: Question to answer.
        vector: Vector of the question, shape (dimensions,).
        choice_vectors: Vectors of the question's choices, shape (n_choices, dimensions).
        neighbours: Examples that were retrieved for the question.

    Returns:
        A table of shape (n_choices, len(FEATURES)), each feature centred over the choices.
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
    """Compare each choice with the right and the most similar wrong choice of each neighbour.

    Returns:
        Sums over the neighbours, weighted by each kernel: for the right and the wrong choice, whether the texts are the
        same, and the similarity. Each has shape (n_choices,).
    """
    matches = np.zeros((2, 2, len(texts), len(neighbours)))  # right or wrong, same text or similarity
    for column, neighbour in enumerate(neighbours):
        similarity = np.exp(_LIKENESS * (choice_vectors @ neighbour.choice_vectors.T - 1))
        neighbour_texts = [normalised(choice) for choice in neighbour.example.choices]
        answer = answer_of(neighbour.example)
        wrong = [i for i in range(len(neighbour_texts)) if i != answer]
        for row, text in enumerate(texts):
            matches[0, 0, row, column] = text == neighbour_texts[answer]
            matches[1, 0, row, column] = any(text == neighbour_texts[i] for i in wrong)
        matches[0, 1, :, column] = similarity[:, answer]
        matches[1, 1, :, column] = similarity[:, wrong].max(axis=1)
    nearness = np.array([neighbour.similarity for neighbour in neighbours])
    weights = [np.exp(kernel * (nearness - 1)) for kernel in _KERNELS]
    return [matches[side, form] @ weight for weight in weights for side in (0, 1) for form in (0, 1)]


def _by_pair(choice_vectors: Vectors, neighbours: Sequence[RetrievedExample]) -> list[Array]:
    """Estimate how much likelier than by chance similar choices were right among the neighbours.

    Returns:
        A kernel regression (Nadaraya 1964, Watson 1964), shrunk towards zero, for each pair of kernels in _PAIRS. Each
        has shape (n_choices,).
    """
    if not neighbours:
        return [np.zeros(len(choice_vectors))] * len(_PAIRS)
    neighbour_vectors = np.concatenate([neighbour.choice_vectors for neighbour in neighbours])
    sizes = [len(neighbour.choice_vectors) for neighbour in neighbours]
    nearness = np.repeat([neighbour.similarity for neighbour in neighbours], sizes)
    right = np.concatenate(
        [np.eye(n)[answer_of(neighbour.example)] - 1 / n for n, neighbour in zip(sizes, neighbours, strict=True)]
    )
    cosines = choice_vectors @ neighbour_vectors.T
    columns = []
    for own, of_question in _PAIRS:
        weight = np.exp(own * (cosines - 1) + of_question * (nearness - 1))
        shrink = np.exp(own * (_UNLIKE - 1) + of_question * (_FAR - 1))
        columns.append((weight @ right) / (weight.sum(axis=1) + shrink))
    return columns


def _among_rivals(question: Question, texts: Sequence[str], vector: Vectors, choice_vectors: Vectors) -> list[Array]:
    """Compare each choice with the question's other choices, its rivals, and with the question."""
    rivals = len(texts) - 1
    # The cosine of a choice to itself becomes -1, so that no choice is the nearest of its own rivals.
    similarity = choice_vectors @ choice_vectors.T - 2 * np.eye(len(texts))
    words = [set(re.findall(r"\w+", text)) for text in texts]
    question_words = set(re.findall(r"\w+", question.question.lower()))
    shared = [
        sum(len(own & other) / (len(own | other) + 1) for j, other in enumerate(words) if i != j) / rivals
        for i, own in enumerate(words)
    ]
    # Blanks at the end are left out: a right choice of CodeMMLU often ends with a line break that the others lack. This
    # is a trace of how the file was made and tells nothing about the problem.
    length = np.log([len(choice.rstrip()) + 1 for choice in question.choices])
    return [
        (similarity.sum(axis=1) + 1) / rivals,
        similarity.max(axis=1),
        np.array(shared),
        choice_vectors @ vector,
        np.array([len(own & question_words) / (len(own) + 1) for own in words]),
        length,
        length - np.log([len(text) + 1 for text in texts]),
        length == length.max(),
        length == length.min(),
        np.array([re.search(r"\ball (of )?the|\ball of|\bboth\b", text) is not None for text in texts]),
        np.array(["none of" in text for text in texts]),
    ]


def answer_of(example: Question) -> int:
    """Return the index of an example's right choice."""
    assert example.answer is not None, "an example has an answer"
    return ord(example.answer) - ord("A")


def log_probabilities(table: Array, weights: TransferWeights) -> Array:
    """Return the natural log-probabilities of the choices, shape (n_choices,), from their `features`."""
    scores = (table / np.array(weights.scales)) @ np.array(weights.weights)
    shifted = scores - scores.max()
    result: Array = shifted - np.log(np.exp(shifted).sum())
    return result


def fit(tables: Sequence[Array], right: Sequence[int], seed: int, left_out: str = "") -> TransferWeights:
    """Fit the weights that make the right choices of solved questions likeliest, shrunk slightly to zero.

    Args:
        tables: The `features` of each question.
        right: Index of each question's right choice.
        seed: Seed of the sample of questions; the weights carry it.
        left_out: Digest of the examples that were left out of the fit; the weights carry it.

    Returns:
        The weights and the scale of each feature.
    """
    stacked = np.concatenate(tables)
    # A feature that never differs carries no information: its scale only has to differ from zero.
    scales = np.where((spread := stacked.std(axis=0)) > 1e-9, spread, 1.0)
    choices = conditional_logit.ChoiceTable(stacked / scales, [len(table) for table in tables], right)
    fitted = conditional_logit.fit(choices, ridge=_PENALTY)
    return TransferWeights(
        features=FEATURES,
        scales=tuple(map(float, scales)),
        weights=tuple(map(float, fitted)),
        fitted_on=len(tables),
        seed=seed,
        left_out=left_out,
    )
