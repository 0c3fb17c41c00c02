"""What solved questions say, in folds: the method `retrieve` for `benchmarks/evidence.py`."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codemmlu.retrieval import answer_transfer
from codemmlu.retrieval.answer_transfer import RetrievedExample
from codemmlu.retrieval.hashing import HashingEncoder
from codemmlu.schema import Question

Array = npt.NDArray[np.float64]
FOLDS = 5
_NEAR = 64  # solved questions that each question looks at
_SAMPLE = 1000  # solved questions that the weights of retrieval are fitted on


def retrieved(
    questions: Sequence[Question], right: npt.NDArray[np.int64], folds: npt.NDArray[np.int64]
) -> list[Array | None]:
    """The product's answer transfer, from the solved questions of the other folds."""
    encoder = HashingEncoder()
    vectors = encoder.encode([question.question for question in questions])
    ends = np.cumsum([len(question.choices) for question in questions])
    own = np.split(encoder.encode([choice for question in questions for choice in question.choices]), ends[:-1])
    result: list[Array | None] = [None] * len(questions)
    generator = np.random.default_rng(0)

    def features(row: int, known: npt.NDArray[np.int64]) -> Array:
        cosines = vectors[known] @ vectors[row]
        near = known[np.argsort(-cosines, kind="stable")[:_NEAR]]
        solved = [RetrievedExample(questions[n], float(vectors[n] @ vectors[row]), own[n]) for n in near if n != row]
        return answer_transfer.features(questions[row], vectors[row], own[row], solved)

    def one(fold: int) -> None:
        known = np.flatnonzero(folds != fold)
        sample = generator.permutation(known)[:_SAMPLE]
        # An example is not shown its near-duplicates: they are in the same fold.
        fitted_on = [features(int(row), known[folds[known] != folds[row]]) for row in sample]
        weights = answer_transfer.fit(fitted_on, [int(right[row]) for row in sample], seed=0)
        for row in np.flatnonzero(folds == fold):
            result[row] = np.exp(answer_transfer.log_probabilities(features(int(row), known), weights))

    for fold in range(FOLDS):
        one(fold)
    return result
