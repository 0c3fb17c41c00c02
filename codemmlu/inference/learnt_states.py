"""What hidden states are worth: a conditional logit over the states of choices, and nearest choices of examples.

Two kinds of features describe a choice: its reduced state, and how often the nearest choices of the examples were right
(kNN prompting, arXiv:2303.13824), by a kernel estimate as in `retrieval/answer_transfer`. An example that was learnt
from is judged by weights, and by neighbours, of the other folds. It is a view on stored answers: learning again reads
no state again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from codemmlu.inference.methods.probe import states_of
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Probabilities, conditional_logit
from codemmlu.schema import Answer, Question, letters

Array = npt.NDArray[np.float64]

_FOLDS = 5
_KERNELS = (8.0, 32.0)  # how fast the weight of a choice falls with its distance, exp(k (cosine - 1))
_SHRINK = 1.0  # weight of chance in a kernel estimate
_PENALTIES = (10.0, 100.0, 1000.0)  # on the squared weights, in log-likelihood; the folds choose among them


@dataclass(frozen=True)
class _Choices:
    """The choices of some examples: states of length 1, how much likelier than chance each was right, and its fold."""

    states: Array
    right: Array
    folds: npt.NDArray[np.int64]


@dataclass(frozen=True)
class LearntStates:
    """What was learnt of states.

    Attributes:
        spec: The spec of the states.
        choices: The choices of the examples.
        weights: The weights of the features: those of all examples last, before them those without each fold.
        folds: The fold by the key of each example.
    """

    spec: InferenceSpec
    choices: _Choices
    weights: tuple[Array, ...]
    folds: Mapping[str, int]

    def probabilities(self, question: Question, answer: Answer) -> Probabilities | None:
        """Return the probabilities of the choices; None where the answer has no states, or nothing was learnt."""
        states = states_of(answer, len(question.choices))
        if states is None or not self.weights:
            return None
        fold = self.folds.get(answer.key)
        scores = _features(states, self.choices, fold) @ self.weights[-1 if fold is None else fold]
        shares = np.exp(scores - scores.max())
        result: Probabilities = shares / shares.sum()
        return result


def learn_states(spec: InferenceSpec, examples: Iterable[Question], answers: Mapping[str, Answer]) -> LearntStates:
    """Fit the weights of states on labelled examples.

    Args:
        spec: The spec of the states.
        examples: The examples, none of which the model was tuned on.
        answers: The stored states, by key.

    Returns:
        What was learnt; without states in every fold, nothing.
    """
    known: dict[str, tuple[Array, int]] = {}
    for example in examples:
        key = spec.key(example)
        answer = answers.get(key)
        states = states_of(answer, len(example.choices)) if answer else None
        if states is not None and example.answer is not None:
            known.setdefault(key, (states, letters(26).index(example.answer)))
    folds = {key: int(key[:8], 16) % _FOLDS for key in known}
    if set(folds.values()) != set(range(_FOLDS)):
        return LearntStates(spec, _Choices(np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=np.int64)), (), {})
    choices = _choices(list(known.values()), list(folds.values()))
    tables = [_features(states, choices, folds[key]) for key, (states, _) in known.items()]
    rights = [right for _, right in known.values()]
    return LearntStates(spec, choices, _fitted(tables, rights, np.array(list(folds.values()))), folds)


def _choices(known: Sequence[tuple[Array, int]], folds: Sequence[int]) -> _Choices:
    sizes = [len(states) for states, _ in known]
    right = [np.eye(size)[answer] - 1 / size for size, (_, answer) in zip(sizes, known, strict=True)]
    states = np.concatenate([_of_length_one(states) for states, _ in known])
    return _Choices(states, np.concatenate(right), np.repeat(folds, sizes))


def _fitted(tables: Sequence[Array], rights: Sequence[int], folds: npt.NDArray[np.int64]) -> tuple[Array, ...]:
    """Return the weights without each fold, and those of all, under the penalty that foretells the folds best."""
    best: tuple[float, tuple[Array, ...]] | None = None
    for penalty in _PENALTIES:
        weights = tuple(_weights(tables, rights, folds != fold, penalty) for fold in range(_FOLDS))
        likelihood = sum(
            float(conditional_logit.log_likelihoods(_table(tables, rights, folds == fold), weights[fold]).sum())
            for fold in range(_FOLDS)
        )
        if best is None or likelihood > best[0]:
            best = likelihood, (*weights, _weights(tables, rights, folds >= 0, penalty))
    assert best is not None
    return best[1]


def _weights(tables: Sequence[Array], rights: Sequence[int], chosen: npt.NDArray[np.bool_], penalty: float) -> Array:
    return conditional_logit.fit(_table(tables, rights, chosen), ridge=penalty)


def _table(
    tables: Sequence[Array], rights: Sequence[int], chosen: npt.NDArray[np.bool_]
) -> conditional_logit.ChoiceTable:
    rows = np.flatnonzero(chosen)
    features = np.concatenate([tables[row] for row in rows])
    return conditional_logit.ChoiceTable(features, [len(tables[row]) for row in rows], [rights[row] for row in rows])


def _features(states: Array, choices: _Choices, fold: int | None) -> Array:
    """Return the features of a question's choices, centred over them; neighbours are of other folds than `fold`."""
    others = choices.folds != (-1 if fold is None else fold)
    cosines = _of_length_one(states) @ choices.states[others].T
    near = [
        (weight @ choices.right[others]) / (weight.sum(axis=1) + _SHRINK)
        for weight in (np.exp(kernel * (cosines - 1)) for kernel in _KERNELS)
    ]
    # A state of length 1 has small numbers in each dimension: their scale is that of one number of 1 in all.
    table = np.column_stack([_of_length_one(states) * np.sqrt(states.shape[1]), *(10 * column for column in near)])
    centred: Array = table - table.mean(axis=0)
    return centred


def _of_length_one(states: Array) -> Array:
    lengths: Array = np.linalg.norm(states, axis=1, keepdims=True)
    result: Array = states / np.maximum(lengths, 1e-9)
    return result
