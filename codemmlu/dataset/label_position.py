"""Swaps: a question with its right choice moved to another letter, to measure what a letter alone is worth.

As the CodeMMLU paper measures it (Manh et al. 2024, arXiv:2410.01999, order bias): the right choice and the one at the
letter change places, everything else stands as it was.
"""

from dataclasses import replace

from codemmlu.schema import Question, letters

SWAPPED = "ABCD"


def with_answer_at(question: Question, to: str) -> Question | None:
    """The question with its right choice at a letter of SWAPPED; None without an answer, or with fewer choices."""
    if question.answer is None or len(question.choices) < len(SWAPPED):
        return None
    names = letters(len(question.choices))
    right, there = names.index(question.answer), names.index(to)
    choices = list(question.choices)
    choices[right], choices[there] = choices[there], choices[right]
    return replace(question, choices=tuple(choices), answer=to)
