"""Ballots: what all voters say of some questions, in columns.

Arrays over (questions, voters, choices): questions with fewer choices than the widest one have choices that are none.
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
    """One row of votes per question.

    voters: by name, in the order of the alphabet: nothing depends on the order in which they came
    task_ids, positions: of the questions, (questions,)
    choices: which choices there are, (questions, choices)
    status: places in STATUSES, (questions, voters)
    letters: the choice each voter named, from 0; -1 where it did not vote, (questions, voters)
    probabilities: (questions, voters, choices); zero where there is no choice or no vote
    sharp: which votes are a letter without probabilities, (questions, voters)
    similarity: of the nearest solved example, NaN where nobody looked, (questions,); subjects: theirs
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

    @property
    def voting(self) -> Bits:
        """Which votes count: abstentions, failures and what was not asked never do. (questions, voters)."""
        found: Bits = self.status == ANSWERED
        return found

    @property
    def sizes(self) -> Whole:
        """How many choices each question has."""
        found: Whole = self.choices.sum(axis=1)
        return found

    def rows(self, chosen: npt.NDArray[np.int64]) -> "Ballots":
        """The questions at these places."""
        columns = ("positions", "choices", "status", "letters", "probabilities", "sharp", "similarity")
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in columns},
            task_ids=tuple(self.task_ids[i] for i in chosen),
            subjects=tuple(self.subjects[i] for i in chosen),
        )


def ballots(votes: pa.Table) -> Ballots:
    """A table of votes (see VOTE) as ballots; its rows may come in any order.

    Raises ValueError where a voter has no vote, or two, on a question.

    A vote that answers with probabilities that are none (not finite, negative, nothing in all, or not one for each
    choice) or with a letter that is none counts as failed. What does not sum to one is brought to it.
    """
    votes = votes.take(pc.sort_indices(votes, [("voter", "ascending"), ("position", "ascending")])).combine_chunks()
    named: Any = votes["voter"].to_pylist()
    names = tuple(sorted(set(named)))
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
    said = _codes(votes["letter"], tuple(letters(26))).reshape(len(names), n).T
    given, whole, sharp = _probabilities(votes["probabilities"], np.tile(sizes, len(names)), k)
    probabilities = given.reshape(len(names), n, k).transpose(1, 0, 2)
    whole, sharp = whole.reshape(len(names), n).T, sharp.reshape(len(names), n).T
    answered = status == ANSWERED
    broken = answered & ~((said >= 0) & (said < sizes[:, None]) & (sharp | whole))
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
        letters=np.where(answered, said, -1),
        probabilities=np.where((answered & ~sharp)[:, :, None], probabilities, 0.0),
        sharp=sharp & answered,
        similarity=np.where(np.isfinite(similarity), similarity, np.nan),
        subjects=tuple(questions["subject"].to_pylist()),
    )


def _numbers(column: Any) -> Whole:
    found: Whole = np.asarray(column.to_numpy(), dtype=np.int64)
    return found


def _codes(column: Any, known: Sequence[str]) -> Whole:
    """The place of each value among those known; -1 of null and of all others."""
    places: Any = pc.fill_null(pc.index_in(column, value_set=pa.array(known, pa.string())), -1)
    found: Whole = np.asarray(places.to_numpy(), dtype=np.int64)
    return found


def _probabilities(column: Any, sizes: Whole, k: int) -> tuple[Array, Bits, Bits]:
    """Lists as rows of `k`, each with a sum of one; which of them are probabilities over their choices; and which are
    empty."""
    lists: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    flat = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(flat)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    table = np.zeros((len(lengths), k))
    fits = places < k
    table[rows[fits], places[fits]] = flat[fits]
    sums = table.sum(axis=1)
    with np.errstate(invalid="ignore"):
        whole = (lengths == sizes) & np.isfinite(sums) & (sums > 0) & (table >= 0).all(axis=1)
    table[~whole] = 0.0
    return table / np.where(whole, sums, 1.0)[:, None], whole, lengths == 0
