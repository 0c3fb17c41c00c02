"""Score sheets for tests, out of letters."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codemmlu.report.score_table import Column, ScoreTable
from codemmlu.voting.ballots import STATUSES

# A letter; None: no answer; "failed" or "skipped"; or a letter with its probability.
Said = str | None | tuple[str, float]


def column(said: Sequence[Said]) -> Column:
    """What a voter said of each question."""
    pairs = [one if isinstance(one, tuple) else (one, np.nan) for one in said]
    silent = {None: "abstained", "failed": "failed", "skipped": "skipped"}
    status = [STATUSES.index(silent.get(letter, "answered")) for letter, _ in pairs]
    letters = [-1 if letter in silent else "ABCDEFGH".index(letter or "") for letter, _ in pairs]
    sure = np.array([probability for _, probability in pairs], dtype=np.float64)
    return Column(np.array(status, np.int8), np.array(letters, np.int8), sure, sure)


def sheet(right: Sequence[str | None], voters: Mapping[str, Sequence[Said]], **fields: Any) -> ScoreTable:
    """Questions of four choices with these right letters, and what voters said. rules: as voters."""
    count = len(right)
    columns: dict[str, Any] = {
        "choices": np.full(count, 4, np.int8),
        "characters": np.zeros(count, np.int32),
        "subjects": np.full(count, -1, np.int32),
        "subject_names": (),
        "verbatim": np.full(count, -1, np.int8),
        "nearest": np.full(count, np.nan),
        "rules": {},
        "alone": {},
        **fields,
    }
    gold = np.array([-1 if letter is None else "ABCDEFGH".index(letter) for letter in right], np.int8)
    columns["rules"] = {name: column(said) for name, said in columns["rules"].items()}
    return ScoreTable(right=gold, voters={name: column(said) for name, said in voters.items()}, **columns)
