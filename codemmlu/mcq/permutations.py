"""The orders in which one question's choices are shown: each reading sees another one."""

import hashlib
import itertools
import math
import random
from typing import Literal

Readings = int | Literal["cyclic", "all"]

# All orders of five choices are 120 readings of one question; of more, nobody waits for them.
MOST_ORDERS = 120


def orders(n_choices: int, readings: Readings, seed: str) -> tuple[tuple[int, ...], ...]:
    """order[i] = choice shown at letter i. The first is the question's own order; no order comes twice.

    cyclic: the n_choices rotations, which put every choice at every letter once
    all: every order, of at most five choices; of more, MOST_ORDERS of them
    N: the first N of: the rotations, then others drawn by `seed` (a text of the question's own)
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
