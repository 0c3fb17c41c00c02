"""What observations are worth: frequencies learnt from the stored observations of labelled examples.

It is a view on stored answers, like a letter prior: learning again runs no tool again.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codemmlu.evidence import PROBES, Frequencies, Observation, count
from codemmlu.evidence.frequencies import Feature
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Probabilities
from codemmlu.schema import Answer, Question, letters


@dataclass(frozen=True)
class LearntEvidence:
    """The frequencies of a method's features on the examples.

    Attributes:
        spec: The spec of the observations.
        frequencies: The counts.
        examples: The index of the right choice by the key of each example that was counted.
    """

    spec: InferenceSpec
    frequencies: Frequencies
    examples: Mapping[str, int]

    def probabilities(self, question: Question, answer: Answer) -> Probabilities | None:
        """Return the probabilities of the choices; None where the observation says nothing about them.

        An example that was counted is judged by the others alone.
        """
        features = features_of(self.spec.method, question, answer)
        if features is None:
            return None
        return self.frequencies.probabilities(features, self.examples.get(answer.key))


def features_of(method: str, question: Question, answer: Answer) -> list[Feature] | None:
    """Return the features of a question's choices that follow from its stored observation."""
    if answer.status != "answered" or not answer.turns:
        return None
    try:
        features = PROBES[method].features(question, Observation.parse(answer.turns[0].text))
    except (ValueError, KeyError, TypeError, IndexError):  # What a program says of itself may be anything.
        return None
    return None if features is None else list(features)


def learn_evidence(spec: InferenceSpec, examples: Iterable[Question], answers: Mapping[str, Answer]) -> LearntEvidence:
    """Count the features of labelled examples.

    Args:
        spec: The spec of the observations.
        examples: The examples.
        answers: The stored observations, by key.

    Returns:
        What was learnt.
    """
    rights: dict[str, int] = {}
    counted = []
    for example in examples:
        key = spec.key(example)
        answer = answers.get(key)
        if answer is None or key in rights or example.answer is None:
            continue
        rights[key] = letters(26).index(example.answer)
        counted.append((features_of(spec.method, example, answer), rights[key]))
    return LearntEvidence(spec, count(counted), rights)
