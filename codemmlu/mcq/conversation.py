"""Conversations to probabilities over the choices: checks, and shares of replies."""

from collections.abc import Sequence

import numpy as np

from codemmlu.mcq.probabilities import Probabilities, choice_probabilities
from codemmlu.schema import Reading, Turn, letters

# What the one reading beside n replies weighs, in replies: less than one, so that it moves nothing but ties.
_READING = 0.4


def p_true(check: Reading) -> float:
    """P(TRUE) of a check, between its two words alone."""
    return float(choice_probabilities([check])[0])


def ranked(reading: Reading, turns: Sequence[Turn]) -> Probabilities:
    """P(answer) x P(TRUE), normalised; turns: the checks of the choices, in their order."""
    checked = np.array([turn.p_true for turn in turns if turn.kind == "check"], dtype=np.float64)
    answered = choice_probabilities([reading])
    product: Probabilities = answered * checked
    return product / product.sum() if product.sum() > 0 else answered


def verified(readings: Sequence[Reading], turns: Sequence[Turn]) -> Probabilities:
    """The end of a conversation of answers and checks: its last answer on top, as sure as it was reached.

    How sure: the answer's share of the last reading, times the P(TRUE) of its check; of a choice that was left over
    without one, times the P(FALSE) of all that were refused. The others follow in the first reading's order, the closer
    to the top the less sure it is. A ranking with a margin, not yet a calibrated probability.
    """
    first = choice_probabilities(readings[:1])
    size = len(first)
    last = choice_probabilities(readings[-1:], size=size)
    chosen = int(last.argmax())
    checks = [float(turn.p_true) for turn in turns if turn.p_true is not None]
    accepted = turns[-1].kind == "check"
    sure = last[chosen] * (checks[-1] if accepted else np.prod([1 - p for p in checks]))
    others = np.delete(first, chosen)
    weights = np.insert((1 - sure) * others / max(others.max(initial=0.0), 1e-300), chosen, 1.0 + 1e-6)
    result: Probabilities = weights / weights.sum()
    return result


def shares(reading: Reading, turns: Sequence[Turn]) -> Probabilities:
    """Each letter's share of the replies that say one. Equal shares are told apart by the one reading beside them."""
    said = [turn.letter for turn in turns if turn.kind == "reply" and turn.letter]
    counts = np.array([said.count(name) for name in letters(len(reading.order))], dtype=np.float64)
    fit_questions = counts + _READING * choice_probabilities([reading])
    result: Probabilities = fit_questions / fit_questions.sum()
    return result
