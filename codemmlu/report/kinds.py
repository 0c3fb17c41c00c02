"""The tables of a report, cut by the kind of question. Kinds follow from the text and are stored nowhere."""

from collections.abc import Sequence

import numpy as np

from codemmlu.dataset.kind import KindRules
from codemmlu.dataset.stored import stored_questions
from codemmlu.report import statistics
from codemmlu.report.evidence_results import KindNumbers, KindReport
from codemmlu.report.score_table import Bits, Codes, Column, ScoreTable
from codemmlu.run_dir import RunDir


def kinds_of(run: RunDir, rules: KindRules) -> Codes:
    """Return the kind of each question of a run as an index into the rules' names, in the order of positions."""
    codes = {name: code for code, name in enumerate(rules.names)}
    pairs = sorted((question.position, codes[rules.kind_of(question)]) for question in stored_questions(run))
    return np.array([kind for _, kind in pairs], dtype=np.int16)


def by_kind(kinds: Codes, names: Sequence[str], scores: ScoreTable, rule: str) -> dict[str, KindReport]:
    """Return for each kind that occurs the numbers of all voters and of the vote.

    Args:
        kinds: The result of `kinds_of`.
        names: The names of the kinds.
        scores: The score table, in the same order.
        rule: The rule that decides.

    Returns:
        By kind, its numbers.
    """
    tables = {}
    for code, kind in enumerate(names):
        inside: Bits = kinds == code
        if inside.any():
            tables[kind] = KindReport(
                questions=int(inside.sum()),
                labelled=int((inside & scores.labelled).sum()),
                voters={name: _numbers(scores, column, inside) for name, column in scores.voters.items()},
                vote=_numbers(scores, scores.rules[rule], inside),
            )
    return tables


def _numbers(scores: ScoreTable, column: Column, inside: Bits) -> KindNumbers:
    right, asked = statistics.accuracy(scores, column, inside)
    answered = int((inside & (column.letters >= 0)).sum())
    labelled = int((inside & scores.counted(column) & (column.letters >= 0)).sum())
    return KindNumbers(
        answered=answered,
        right=right,
        asked=asked,
        accuracy=right / asked if asked else None,
        accuracy_answered=right / labelled if labelled else None,
        interval=statistics.wilson(right, asked),
    )
