"""The score sheet: columns of numbers on all questions of a run, from which every statistic is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from codemmlu.schema import letters
from codemmlu.voting.ballots import FAILED, STATUSES

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int8]
Bits = npt.NDArray[np.bool_]
_SKIPPED = STATUSES.index("skipped")


@dataclass(frozen=True)
class Column:
    """What one voter, or the vote by one rule, said of each question.

    status: places in STATUSES; letters: from 0, -1 none; sure: the probability of its letter, NaN where it has none;
    calibrated: the same after its temperature
    """

    status: Codes
    letters: Codes
    sure: Numbers
    calibrated: Numbers

    @property
    def asked(self) -> Bits:
        """Where it was asked and did not break: the rest is neither right nor wrong."""
        found: Bits = (self.status != FAILED) & (self.status != _SKIPPED)
        return found


@dataclass(frozen=True)
class ScoreTable:
    """All questions in order. right: the right letter, from 0, -1 unlabelled; verbatim: 1 where an example has the same
    text, -1 where nobody looked; nearest: the similarity of the nearest example, else NaN."""

    right: Codes
    choices: Codes
    characters: npt.NDArray[np.int32]
    subjects: npt.NDArray[np.int32]
    subject_names: tuple[str, ...]
    verbatim: Codes
    nearest: Numbers
    voters: dict[str, Column]
    rules: dict[str, Column]
    alone: dict[str, Codes]

    @property
    def labelled(self) -> Bits:
        """Which questions have a right letter."""
        found: Bits = self.right >= 0
        return found

    def correct(self, column: Column) -> Bits:
        """Where a voter is right."""
        found: Bits = self.labelled & (column.letters == self.right)
        return found

    def counted(self, column: Column) -> Bits:
        """The questions that a voter's accuracy is told of: labelled, asked, not failed."""
        found: Bits = self.labelled & column.asked
        return found


def sheet(reduced: pa.Table, decided: pa.Table, rule: str) -> ScoreTable:
    """The sheet of what the reduce gave back: by question, both in the order of positions. rule: the chosen one."""

    def numbers(table: pa.Table, name: str) -> Numbers:
        return np.asarray(table[name].to_numpy(), dtype=np.float64)

    def codes(table: pa.Table, name: str) -> Codes:
        return np.asarray(table[name].to_numpy(), dtype=np.int8)

    def named(table: pa.Table, group: str) -> list[str]:
        return [name.removeprefix(f"{group}/") for name in table.column_names if name.startswith(f"{group}/")]

    voters = {
        name: Column(
            codes(reduced, f"status/{name}"),
            codes(reduced, f"letter/{name}"),
            numbers(reduced, f"sure/{name}"),
            numbers(decided, f"calibrated/{name}"),
        )
        for name in named(reduced, "status")
    }
    # A question is excluded from the vote's accuracy where every voter failed on it.
    everywhere = np.logical_and.reduce([column.status == FAILED for column in voters.values()])
    nothing = np.full(reduced.num_rows, np.nan)
    rules = {}
    for name in named(decided, "rule"):
        said = codes(decided, f"rule/{name}")
        status = np.where(said >= 0, 0, np.where(everywhere, FAILED, STATUSES.index("abstained"))).astype(np.int8)
        sure = np.where(said >= 0, numbers(decided, "sure"), np.nan) if name == rule else nothing
        rules[name] = Column(status, said, sure, sure)
    subjects: Any = reduced["subject"].combine_chunks()
    if isinstance(subjects, pa.ChunkedArray):
        subjects = subjects.chunk(0)
    return ScoreTable(
        right=codes(reduced, "right"),
        choices=codes(reduced, "choices"),
        characters=np.asarray(reduced["characters"].to_numpy(), dtype=np.int32),
        subjects=np.asarray(pc.fill_null(subjects.indices, -1).to_numpy(zero_copy_only=False), dtype=np.int32),
        subject_names=tuple(subjects.dictionary.to_pylist()),
        verbatim=codes(reduced, "verbatim"),
        nearest=numbers(reduced, "nearest"),
        voters=voters,
        rules=rules,
        alone={name: codes(reduced, f"alone/{name}") for name in named(reduced, "alone")},
    )


def letter_counts(said: Sequence[int] | Codes) -> dict[str, int]:
    """How often each letter stands there, in the order of the alphabet."""
    found, counts = np.unique(np.asarray(said), return_counts=True)
    names = letters(26)
    return {names[letter]: int(count) for letter, count in zip(found, counts, strict=True) if letter >= 0}
