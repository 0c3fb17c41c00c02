"""The numbers of a run: report.json, told of the score sheet and of what the answers cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codemmlu.report import statistics
from codemmlu.report.score_table import Bits, Column, ScoreTable, letter_counts
from codemmlu.report.statistics import LEVEL, wilson
from codemmlu.retrieval.texts import TWINS
from codemmlu.voting.ballots import STATUSES
from codemmlu.voting.model import EnsembleModel

VOTE = "vote"


def chance(sheet: ScoreTable, among: Bits | None = None) -> float | None:
    """The accuracy of guessing on the labelled questions: the mean of 1 / number of choices."""
    odds = 1 / sheet.choices[sheet.labelled if among is None else sheet.labelled & among].astype(float)
    return float(odds.mean()) if odds.size else None


def cost(told: Mapping[str, Any]) -> dict[str, Any]:
    """What answers cost, of their sums (see tally).

    computed: tokens that went through the model, and were not in its cache; seconds: for how long at least one ask was
    under way, so that start-up and the time between two issues of a run do not count
    """
    return {
        "prompt_tokens": told["prompt_tokens"],
        "cached_tokens": told["cached_tokens"],
        "generated_tokens": told["generated_tokens"],
        "computed_tokens": told["prompt_tokens"] - told["cached_tokens"] + told["generated_tokens"],
        "readings": told["readings"],
        "turns": told["turns"],
        "seconds": sum(end - start for start, end in told["under_way"]),
    }


def voter(sheet: ScoreTable, name: str, told: Mapping[str, Any]) -> dict[str, Any]:
    """One voter's numbers: accuracies (null without labels), counts, cost as if it stood alone, letters said.

    told: the sums of what had to be asked for it
    """
    column, paid = sheet.voters[name], cost(told)
    right, asked = statistics.accuracy(sheet, column)
    guessed = chance(sheet, column.asked)
    above = right / asked - guessed if asked and guessed is not None else None
    computed = paid["computed_tokens"]
    alone = sheet.alone.get(name)
    return {
        **_accuracy(sheet, column),
        **{status: int((column.status == place).sum()) for place, status in enumerate(STATUSES)},
        **paid,
        "above_chance_per_million_computed": above * 1e6 / computed if above is not None and computed else None,
        "letters_said": letter_counts(column.letters),
        "coverage": statistics.coverage(sheet, column),
        "calibration": {
            "as_said": statistics.calibration(sheet, column, column.sure),
            "fitted": statistics.calibration(sheet, column, column.calibrated),
        },
        "letter_mass": told["mass"] / told["readings"] if told["readings"] else None,
        "reading_alone": _share((alone == sheet.right)[sheet.labelled & (alone >= 0)]) if alone is not None else None,
    }


def vote(sheet: ScoreTable, rule: str) -> dict[str, Any]:
    """The verdicts' numbers, with the voters' denominators: a question that every voter failed on is excluded."""
    column = sheet.rules[rule]
    return {
        "rule": rule,
        **_accuracy(sheet, column),
        "answered": int((column.letters >= 0).sum()),
        "letters_said": letter_counts(column.letters),
        "coverage": statistics.coverage(sheet, column),
        "calibration": statistics.calibration(sheet, column, column.sure),
    }


def rules(sheet: ScoreTable, fitted: EnsembleModel) -> dict[str, Any]:
    """What every rule would have said. cross_validated: on the fit split, by weights that had not seen a row."""
    return {
        name: {**_accuracy(sheet, column), "cross_validated": fitted.cross_validated.get(name)}
        for name, column in sheet.rules.items()
    }


def weights(fitted: EnsembleModel, names: Sequence[str]) -> dict[str, Any]:
    """What the vote knows of each voter; see VoterFit."""
    return {name: fitted.of(name).model_dump() | {"agreed": fitted.agreed.get(name)} for name in names}


def comparisons(sheet: ScoreTable, rule: str) -> tuple[list[dict[str, Any]], dict[str, int | None]]:
    """Every pair of voters, the vote among them where there are several; and everyone's rank."""
    columns = dict(sheet.voters)
    if len(columns) > 1:
        columns[VOTE] = sheet.rules[rule]
    pairs = statistics.compare(sheet, columns)
    return pairs, statistics.ranks(sheet, columns, pairs)


def headline(report: Mapping[str, Any]) -> str:
    """What came out, in a sentence or two."""
    told, several = report["vote"], len(report["voters"]) > 1
    who = f"The vote ({told['rule']})" if several else next(iter(report["voters"]))
    if told["accuracy"] is None:
        if report["labelled"]:
            return f"All answers to the {report['labelled']:,} labelled questions failed, so no accuracy can be told."
        unanswered = report["questions"] - told["answered"]
        rest = f"{unanswered:,} of {report['questions']:,} questions have no answer" if unanswered else "none is blank"
        return f"{told['answered']:,} questions answered, {rest}. Nothing is labelled, so no accuracy can be told."
    low, high = told["interval"]
    said = (
        f"{who} answers {told['accuracy']:.1%} right (95 % interval {low:.1%} to {high:.1%}; guessing "
        f"{report['chance']:.1%}) of {told['asked']:,} labelled questions."
    )
    return f"{said} {_against_best(report)}" if several else said


def _against_best(report: Mapping[str, Any]) -> str:
    """How the vote compares with the voter that did best."""
    asked = report["vote"]["asked"]
    known = {name: its["accuracy"] for name, its in report["voters"].items() if asked and its["asked"] == asked}
    if not known:
        return ""
    best = max(known, key=lambda name: known[name])
    pair = next(one for one in report["comparisons"] if (one["first"], one["second"]) == (best, VOTE))
    sure = f"p = {pair['p_holm']:.2g}, corrected for {len(report['comparisons'])} pairs"
    if pair["p_holm"] >= LEVEL:
        return f"It cannot be told apart from its best voter, {best} ({known[best]:.1%}; {sure})."
    better = "better" if pair["difference"] > 0 else "worse"
    return f"That is {better} than its best voter, {best} ({known[best]:.1%}; {sure})."


def leakage(sheet: ScoreTable) -> dict[str, Any] | None:
    """How many questions stand among the examples, and every voter's accuracy with and without them.

    verbatim: an example has the same normalised text; near: or a cosine of at least 0.97. None: nobody looked.
    """
    seen = sheet.verbatim >= 0
    if not seen.any():
        return None
    verbatim = sheet.verbatim == 1
    near = np.nan_to_num(sheet.nearest, nan=-1.0).astype(np.float32) >= np.float32(TWINS)  # as it is stored
    leaked = verbatim | (seen & near)
    table = {}
    for name, column in sheet.voters.items():
        parts = {"leaked": leaked, "rest": seen & ~leaked}
        table[name] = {part: _told(*statistics.accuracy(sheet, column, among)) for part, among in parts.items()}
    return {
        "looked_up": int(seen.sum()),
        "verbatim": int(verbatim.sum()),
        "near_verbatim": int(leaked.sum()),
        "threshold": TWINS,
        "voters": table,
    }


def order_sensitivity(sums: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[str, Any] | None:
    """By voter, how its accuracy depends on where the right choice stands; None where it was not measured."""
    return {
        name: statistics.order_sensitivity(
            {letter: right / asked if asked else None for letter, (right, asked) in by_letter.items()},
            max((asked for _, asked in by_letter.values()), default=0),
        )
        for name, by_letter in sums.items()
    } or None


def _accuracy(sheet: ScoreTable, column: Column) -> dict[str, Any]:
    right, asked = statistics.accuracy(sheet, column)
    answered = int((sheet.counted(column) & (column.letters >= 0)).sum())
    return {
        "accuracy": right / asked if asked else None,
        "accuracy_answered": right / answered if answered else None,
        "asked": asked,
        "interval": wilson(right, asked),
        "bootstrap": statistics.bootstrap(right, asked),
    }


def _told(right: int, asked: int) -> dict[str, Any]:
    return {"asked": asked, "accuracy": right / asked if asked else None}


def _share(hits: Bits) -> float | None:
    return float(hits.mean()) if hits.size else None
