"""The other voters of `benchmarks/evidence.py`: what choices look like, and what solved questions say."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from codemmlu.mcq import conditional_logit
from codemmlu.retrieval import answer_transfer
from codemmlu.retrieval.answer_transfer import RetrievedExample
from codemmlu.retrieval.hashing import HashingEncoder
from codemmlu.schema import Question

Array = npt.NDArray[np.float64]
FOLDS = 5
_NEAR = 64  # solved questions that each question looks at
_SAMPLE = 1200  # solved questions that the weights of retrieval are fitted on
_RIDGE = 3.0


def _looks(question: Question, kind: str, kinds: Sequence[str]) -> Array:
    """Features of the choices alone, by kind: no blank at an end counts, as these are traces of how a file was made."""
    texts = [choice.strip() for choice in question.choices]
    lengths = np.log([len(text) + 1 for text in texts])
    words = [set(re.findall(r"\w+", text.lower())) for text in texts]
    asked = set(re.findall(r"\w+", question.question.lower()))
    likeness = [np.mean([len(own & other) / (len(own | other) + 1) for other in words]) for own in words]
    numbers = [float(found[0]) if (found := re.findall(r"^-?\d+(?:\.\d+)?$", text)) else np.nan for text in texts]
    known = np.array([0.0 if np.isnan(n) else float(n in (np.nanmin(numbers), np.nanmax(numbers))) for n in numbers])
    columns = [
        lengths,
        lengths == lengths.max(),
        lengths == lengths.min(),
        np.array([bool(re.search(r"\b(all|both)\b.{0,12}\b(of|the|above|mentioned)\b", text, re.I)) for text in texts]),
        np.array([bool(re.search(r"\bnone\b|\bneither\b", text, re.I)) for text in texts]),
        np.array([bool(re.search(r"\berror\b|exception", text, re.I)) for text in texts]),
        np.array(likeness),
        np.array([len(own & asked) / (len(own) + 1) for own in words]),
        known,
    ]
    table = np.stack(columns, axis=1).astype(np.float64)
    table -= table.mean(axis=0)
    own = np.zeros((len(texts), len(kinds), table.shape[1]))
    own[:, list(kinds).index(kind)] = table
    return np.concatenate([table, own.reshape(len(texts), -1)], axis=1)


def guesses(
    questions: Sequence[Question], kinds: Sequence[str], right: npt.NDArray[np.int64], folds: npt.NDArray[np.int64]
) -> list[Array | None]:
    """A conditional logit over features of the choices alone, with weights of all kinds and of each."""
    names = sorted(set(kinds))
    tables = [_looks(question, kind, names) for question, kind in zip(questions, kinds, strict=True)]
    result: list[Array | None] = [None] * len(tables)
    for fold in range(FOLDS):
        others = np.flatnonzero(folds != fold)
        stacked = np.concatenate([tables[row] for row in others])
        scales = np.where((spread := stacked.std(axis=0)) > 1e-9, spread, 1.0)
        sizes = [len(tables[row]) for row in others]
        choices = conditional_logit.ChoiceTable(stacked / scales, sizes, [int(right[row]) for row in others])
        weights = conditional_logit.fit(choices, ridge=_RIDGE)
        for row in np.flatnonzero(folds == fold):
            scores = (tables[row] / scales) @ weights
            shares = np.exp(scores - scores.max())
            result[row] = shares / shares.sum()
    return result


def retrieved(
    questions: Sequence[Question], kinds: Sequence[str], right: npt.NDArray[np.int64], folds: npt.NDArray[np.int64]
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
