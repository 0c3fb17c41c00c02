"""Probabilities over the choices from conversations: from checks of choices, and from shares of replies."""

from collections.abc import Sequence

import numpy as np

from codemmlu.mcq.probabilities import Probabilities, choice_probabilities
from codemmlu.schema import Reading, Turn, letters

# The weight of the reading that accompanies n replies, in replies: it is less than one, so that it only breaks ties.
_READING = 0.4


def p_true(check: Reading) -> float:
    """Return P(TRUE) of a check, normalised over the words TRUE and FALSE alone."""
    return float(choice_probabilities([check])[0])


def ranked(reading: Reading, turns: Sequence[Turn]) -> Probabilities:
    """Return the normalised P(answer) x P(TRUE); `turns` checks the choices in their order."""
    checked = np.array([turn.p_true for turn in turns if turn.kind == "check"], dtype=np.float64)
    answered = choice_probabilities([reading])
    product: Probabilities = answered * checked
    return product / product.sum() if product.sum() > 0 else answered


def verified(readings: Sequence[Reading], turns: Sequence[Turn]) -> Probabilities:
    """Rank the choices after a conversation of answers and checks, with the last answer on top.

    The confidence of the last answer is its probability in the last reading, times the P(TRUE) of its check. A choice
    that was left over without a check has the P(FALSE) of all refused choices instead. The other choices follow in the
    first reading's order: the lower the confidence, the closer they come to the top.

    Args:
        readings: The reading of each answer, in turn; each shows the choices that were left.
        turns: The answers and checks, in turn.

    Returns:
        A ranking with a margin, shape (n_choices,): it sums to one, but is not yet a calibrated probability.
    """
    first = choice_probabilities(readings[:1])
    size = len(first)
    last = choice_probabilities(readings[-1:], size=size)
    chosen = int(last.argmax())
    checks = [float(turn.p_true) for turn in turns if turn.p_true is not None]
    accepted = turns[-1].kind == "check"
    confidence = last[chosen] * (checks[-1] if accepted else np.prod([1 - p for p in checks]))
    others = np.delete(first, chosen)
    weights = np.insert((1 - confidence) * others / max(others.max(initial=0.0), 1e-300), chosen, 1.0 + 1e-6)
    result: Probabilities = weights / weights.sum()
    return result


def shares(reading: Reading, turns: Sequence[Turn]) -> Probabilities:
    """Return each letter's share of the replies that give a letter; the reading breaks ties."""
    replied = [turn.letter for turn in turns if turn.kind == "reply" and turn.letter]
    counts = np.array([replied.count(name) for name in letters(len(reading.order))], dtype=np.float64)
    weighted = counts + _READING * choice_probabilities([reading])
    result: Probabilities = weighted / weighted.sum()
    return result
