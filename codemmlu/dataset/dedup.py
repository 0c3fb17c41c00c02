"""Twins: when two questions are the same, and when they are nearly so."""

import hashlib
import re
from collections.abc import Sequence

from codemmlu.schema import Question

# The share of three-word runs that two questions have in common from which on they are near-duplicates, about: hashing
# finds nearly all that share 0.85 and hardly any that share 0.5.
NEAR = 0.7
_PERMUTATIONS = 128


def normalised(text: str) -> str:
    """Without case and without differences in whitespace, in which copies of a question differ."""
    return " ".join(text.lower().split())


def content_key(question: Question) -> str:
    """Equal for questions with the same normalised text, whatever their choices and task_ids: 32 hex digits."""
    return hashlib.sha256(normalised(question.question).encode()).hexdigest()[:32]


def near_duplicate_groups(questions: Sequence[Question]) -> list[int]:
    """For each question the number of its group of near-duplicates: the place of the group's first question.

    By MinHash with locality-sensitive hashing (Broder 1997): time and memory grow with the questions, not with their
    pairs. A near-duplicate of a near-duplicate is in the group.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=NEAR, num_perm=_PERMUTATIONS)
    group: list[int] = []
    for place, signature in enumerate(MinHash.bulk([_shingles(q) for q in questions], num_perm=_PERMUTATIONS, seed=0)):
        group.append(place)
        for other in index.query(signature):
            _join(group, place, int(other))
        index.insert(str(place), signature)
    return [_first(group, place) for place in range(len(group))]


def _shingles(question: Question) -> set[bytes]:
    said = " ".join([question.question, *sorted(question.choices)]).lower()
    words = re.findall(r"\w+|[^\w\s]", said)
    return {" ".join(words[place : place + 3]).encode(errors="replace") for place in range(max(1, len(words) - 2))}


def _first(group: list[int], place: int) -> int:
    while group[place] != place:
        place = group[place]
    return place


def _join(group: list[int], one: int, other: int) -> None:
    first, second = sorted((_first(group, one), _first(group, other)))
    group[second] = first
