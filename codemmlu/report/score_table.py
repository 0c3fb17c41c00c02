"""The score table: columns of numbers on all questions, from which every statistic is computed."""

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
    """The votes of one voter, or the verdicts of one rule, on all questions.

    Attributes:
        status: Indices into STATUSES.
        letters: From 0; -1 where there is none.
        sure: The probability of the letter, NaN where there is none.
        calibrated: The same after the voter's temperature is applied.
    """

    status: Codes
    letters: Codes
    sure: Numbers
    calibrated: Numbers

    @property
    def asked(self) -> Bits:
        """Return where the voter was asked and did not fail: other questions are neither right nor wrong."""
        asked: Bits = (self.status != FAILED) & (self.status != _SKIPPED)
        return asked


@dataclass(frozen=True)
class ScoreTable:
    """Numbers on all questions, in the order of their positions.

    Attributes:
        right: The right letter, from 0; -1 where it is unlabelled.
        choices: The number of choices.
        characters: The length of the question with its choices.
        subjects: Indices into `subject_names`; -1 without a subject.
        subject_names: All subjects.
        verbatim: 1 where an example has the same text, 0 where none has, -1 where no voter looked at examples.
        nearest: The similarity of the nearest example, else NaN.
        voters: By voter, the voter's votes.
        rules: By rule, the rule's verdicts.
        alone: By voter of the method `sample`, the letters of the one reading beside the replies.
    """

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
        """Return which questions have a right letter."""
        labelled: Bits = self.right >= 0
        return labelled

    def correct(self, column: Column) -> Bits:
        """Return where a voter is right."""
        hits: Bits = self.labelled & (column.letters == self.right)
        return hits

    def counted(self, column: Column) -> Bits:
        """Return which questions count in a voter's accuracy: labelled, asked, not failed."""
        counted: Bits = self.labelled & column.asked
        return counted


def sheet(reduced: pa.Table, decided: pa.Table, rule: str) -> ScoreTable:
    """Return the score table of a run.

    Args:
        reduced: The columns of the reduce, one row per question, in the order of positions.
        decided: The columns of the verdicts, in the same order.
        rule: The chosen rule.

    Returns:
        The score table; of rules other than the chosen one it has no confidence.
    """

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
        verdicts = codes(decided, f"rule/{name}")
        status = np.where(verdicts >= 0, 0, np.where(everywhere, FAILED, STATUSES.index("abstained"))).astype(np.int8)
        confidence = np.where(verdicts >= 0, numbers(decided, "sure"), np.nan) if name == rule else nothing
        rules[name] = Column(status, verdicts, confidence, confidence)
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


def letter_counts(codes: Sequence[int] | Codes) -> dict[str, int]:
    """Return how often each letter occurs, in alphabetical order."""
    values, counts = np.unique(np.asarray(codes), return_counts=True)
    names = letters(26)
    return {names[letter]: int(count) for letter, count in zip(values, counts, strict=True) if letter >= 0}
