"""Questions with the right choice at another letter, to measure what a letter alone is worth.

The CodeMMLU paper measures order bias in this way (Manh et al. 2024, arXiv:2410.01999): the right choice and the choice
at the letter change places, and everything else stays as it was.
"""

from dataclasses import replace

from codemmlu.schema import Question, letters

SWAPPED = "ABCD"


def with_answer_at(question: Question, to: str) -> Question | None:
    """Return the question with its right choice at a letter of SWAPPED.

    Returns:
        None where the question has no answer, or fewer choices than SWAPPED has letters.
    """
    if question.answer is None or len(question.choices) < len(SWAPPED):
        return None
    names = letters(len(question.choices))
    old, new = names.index(question.answer), names.index(to)
    choices = list(question.choices)
    choices[old], choices[new] = choices[new], choices[old]
    return replace(question, choices=tuple(choices), answer=to)
