"""The orders in which the choices of one question are shown: each reading has a different order."""

import hashlib
import itertools
import math
import random
from typing import Literal

Readings = int | Literal["cyclic", "all"]

# Five choices have 120 orders, hence 120 readings of one question. All orders of more choices would take too long.
MOST_ORDERS = 120


def orders(n_choices: int, readings: Readings, seed: str) -> tuple[tuple[int, ...], ...]:
    """Return the distinct orders in which a question's choices are read.

    Args:
        n_choices: Number of choices of the question.
        readings: `cyclic`: the n_choices rotations, which put every choice at every letter once. `all`: every order of
            at most five choices, and MOST_ORDERS orders of more choices. N: the first N orders of the rotations
            followed by orders drawn at random.
        seed: Text of the question, which seeds the drawing.

    Returns:
        Orders, where order[i] is the choice shown at letter i. The first one is the question's own order.
    """
    own = tuple(range(n_choices))
    rotations = [own[shift:] + own[:shift] for shift in range(n_choices)]
    if readings == "cyclic":
        return tuple(rotations)
    possible = math.factorial(n_choices)
    wanted = min(possible, MOST_ORDERS if readings == "all" else readings)
    if wanted <= n_choices:
        return tuple(rotations[:wanted])
    if wanted == possible:
        others = [order for order in itertools.permutations(own) if order not in rotations]
        return (*rotations, *others)
    drawn = dict.fromkeys(rotations)
    source = random.Random(hashlib.sha256(seed.encode(errors="replace")).digest())
    while len(drawn) < wanted:
        drawn[tuple(source.sample(own, n_choices))] = None
    return tuple(drawn)
