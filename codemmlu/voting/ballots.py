"""Ballots: the votes of all voters on some questions, in arrays.

The arrays have the axes (questions, voters, choices). A question with fewer choices than the widest question is padded
with choices that do not exist.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.schema import VoteStatus, letters

Array = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
Whole = npt.NDArray[np.int64]

STATUSES: tuple[VoteStatus, ...] = ("answered", "abstained", "failed", "skipped")
ANSWERED = STATUSES.index("answered")
FAILED = STATUSES.index("failed")


@dataclass(frozen=True)
class Ballots:
    """The votes of all voters, one row per question.

    Attributes:
        voters: Names in alphabetical order: no result depends on the order in which the voters came.
        task_ids: (questions,).
        positions: (questions,).
        choices: Whether each choice exists, (questions, choices).
        status: Indices into STATUSES, (questions, voters).
        letters: The choice that each voter named, from 0; -1 where the voter did not vote, (questions, voters).
        probabilities: (questions, voters, choices); zero where there is no choice or no vote.
        sharp: Whether a vote is a letter without probabilities, (questions, voters).
        similarity: Cosine of the nearest solved example, NaN where no voter looked at examples, (questions,).
        subjects: (questions,).
        kinds: The kind of each question, (questions,); empty where kinds have no part in the vote.
    """

    voters: tuple[str, ...]
    task_ids: tuple[str, ...]
    positions: Whole
    choices: Bits
    status: npt.NDArray[np.int8]
    letters: Whole
    probabilities: Array
    sharp: Bits
    similarity: Array
    subjects: tuple[str | None, ...]
    kinds: tuple[str, ...] = ()

    @property
    def voting(self) -> Bits:
        """Return which votes count, (questions, voters): abstained, failed and skipped ones never do."""
        counting: Bits = self.status == ANSWERED
        return counting

    @property
    def sizes(self) -> Whole:
        """Return how many choices each question has, (questions,)."""
        counts: Whole = self.choices.sum(axis=1)
        return counts

    def rows(self, chosen: npt.NDArray[np.int64]) -> "Ballots":
        """Return the ballots of the questions at these indices."""
        columns = ("positions", "choices", "status", "letters", "probabilities", "sharp", "similarity")
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in columns},
            task_ids=tuple(self.task_ids[i] for i in chosen),
            subjects=tuple(self.subjects[i] for i in chosen),
            kinds=tuple(self.kinds[i] for i in chosen) if self.kinds else (),
        )


def ballots(votes: pa.Table, kinds: pa.Table | None = None) -> Ballots:
    """Return a table of votes as ballots; the rows may come in any order.

    An answered vote counts as failed where its letter is no choice, or where it has probabilities that are not finite,
    are negative, sum to zero or are not one for each choice. Probabilities are normalised to a sum of one.

    Args:
        votes: A table with the schema `schema.VOTE`.
        kinds: The columns `position`, in ascending order, and `kind` of at least these questions; None: kinds have no
            part in the vote.

    Returns:
        One row per question, in the order of the questions' positions.

    Raises:
        ValueError: A voter has no vote, or two, on a question.
    """
    votes = votes.take(pc.sort_indices(votes, [("voter", "ascending"), ("position", "ascending")])).combine_chunks()
    voter_column: Any = votes["voter"].to_pylist()
    names = tuple(sorted(set(voter_column)))
    n = votes.num_rows // max(1, len(names))
    questions = votes.slice(0, n)
    positions = _numbers(questions["position"])
    if (
        n * len(names) != votes.num_rows
        or (np.diff(positions) <= 0).any()
        or not np.array_equal(_numbers(votes["position"]).reshape(len(names), n), np.tile(positions, (len(names), 1)))
    ):
        raise ValueError("every voter has one vote on every question")
    task_ids: Any = questions["task_id"].to_pylist()
    sizes = _numbers(questions["choices"])
    k = int(sizes.max(initial=0))
    status = _codes(votes["status"], STATUSES).astype(np.int8).reshape(len(names), n).T
    named = _codes(votes["letter"], tuple(letters(26))).reshape(len(names), n).T
    rows, valid, sharp = _probabilities(votes["probabilities"], np.tile(sizes, len(names)), k)
    probabilities = rows.reshape(len(names), n, k).transpose(1, 0, 2)
    valid, sharp = valid.reshape(len(names), n).T, sharp.reshape(len(names), n).T
    answered = status == ANSWERED
    broken = answered & ~((named >= 0) & (named < sizes[:, None]) & (sharp | valid))
    status = np.where(broken, np.int8(FAILED), status)
    answered = status == ANSWERED
    looked_up: Any = pc.fill_null(votes["nearest"], pa.scalar(-np.inf, pa.float32()))
    nearest = np.asarray(looked_up.to_numpy(), dtype=np.float64).reshape(len(names), n)
    similarity = nearest.max(axis=0, initial=-np.inf)
    return Ballots(
        voters=names,
        task_ids=tuple(task_ids),
        positions=positions,
        choices=np.arange(k) < sizes[:, None],
        status=status,
        letters=np.where(answered, named, -1),
        probabilities=np.where((answered & ~sharp)[:, :, None], probabilities, 0.0),
        sharp=sharp & answered,
        similarity=np.where(np.isfinite(similarity), similarity, np.nan),
        subjects=tuple(questions["subject"].to_pylist()),
        kinds=() if kinds is None else _kinds(kinds, positions),
    )


def _kinds(kinds: pa.Table, positions: Whole) -> tuple[str, ...]:
    rows = np.searchsorted(_numbers(kinds["position"]), positions)
    names: Any = kinds["kind"].take(pa.array(rows, pa.int64())).to_pylist()
    return tuple(names)


def _numbers(column: Any) -> Whole:
    numbers: Whole = np.asarray(column.to_numpy(), dtype=np.int64)
    return numbers


def _codes(column: Any, known: Sequence[str]) -> Whole:
    """Return the index of each value among the known values; -1 for null and for all other values."""
    indices: Any = pc.fill_null(pc.index_in(column, value_set=pa.array(known, pa.string())), -1)
    codes: Whole = np.asarray(indices.to_numpy(), dtype=np.int64)
    return codes


def _probabilities(column: Any, sizes: Whole, k: int) -> tuple[Array, Bits, Bits]:
    """Return lists of probabilities as rows of `k`, each normalised to a sum of one.

    Returns:
        The rows, zero where invalid; whether each list holds probabilities of all its choices; whether it is empty.
    """
    lists: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    flat = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    columns = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = np.zeros((len(lengths), k))
    fits = columns < k
    table[rows[fits], columns[fits]] = flat[fits]
    sums = table.sum(axis=1)
    with np.errstate(invalid="ignore"):
        valid = (lengths == sizes) & np.isfinite(sums) & (sums > 0) & (table >= 0).all(axis=1)
    table[~valid] = 0.0
    return table / np.where(valid, sums, 1.0)[:, None], valid, lengths == 0
