"""Deduplication: when two questions are the same, and when they are near-duplicates."""

import hashlib
import re
from collections.abc import Sequence

from codemmlu.schema import Question

# Two questions are near-duplicates from about this share of common three-word runs on: hashing finds nearly all pairs
# that share 0.85 and hardly any pair that shares 0.5.
NEAR = 0.7
# Two questions are near-verbatim copies of each other from this cosine of their vectors on.
TWINS = 0.97
_PERMUTATIONS = 128


def normalised(text: str) -> str:
    """Return a text without case and differences in whitespace, in which copies of a question differ."""
    return " ".join(text.lower().split())


def content_key(question: Question) -> str:
    """Return 32 hex digits of a question's normalised text, whatever the choices and the task_id are."""
    return hashlib.sha256(normalised(question.question).encode()).hexdigest()[:32]


def near_duplicate_groups(questions: Sequence[Question]) -> list[int]:
    """Group near-duplicates by MinHash with locality-sensitive hashing (Broder 1997).

    Time and memory grow with the number of questions, not of pairs. A near-duplicate of a near-duplicate is in the
    group.

    Returns:
        For each question, the position of the first question of the same group.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=NEAR, num_perm=_PERMUTATIONS)
    group: list[int] = []
    signatures = MinHash.bulk([_shingles(q) for q in questions], num_perm=_PERMUTATIONS, seed=0)
    for position, signature in enumerate(signatures):
        group.append(position)
        for other in index.query(signature):
            _join(group, position, int(other))
        index.insert(str(position), signature)
    return [_first(group, position) for position in range(len(group))]


def _shingles(question: Question) -> set[bytes]:
    """Return the runs of three words in a question and the sorted choices."""
    text = " ".join([question.question, *sorted(question.choices)]).lower()
    words = re.findall(r"\w+|[^\w\s]", text)
    return {" ".join(words[start : start + 3]).encode(errors="replace") for start in range(max(1, len(words) - 2))}


def _first(group: list[int], position: int) -> int:
    while group[position] != position:
        position = group[position]
    return position


def _join(group: list[int], left: int, right: int) -> None:
    first, second = sorted((_first(group, left), _first(group, right)))
    group[second] = first
