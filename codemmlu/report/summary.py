"""The numbers of a run, for report.json: from the score table and from what the answers cost."""

from collections.abc import Mapping, Sequence

import numpy as np

from codemmlu.dataset.dedup import TWINS
from codemmlu.report import statistics
from codemmlu.report.results import AskedAccuracy, Leakage, LeakageSplit, OrderSensitivity, Pair
from codemmlu.report.schema import (
    Accuracies,
    Cost,
    Counts,
    Report,
    RuleReport,
    VoterCalibration,
    VoteReport,
    VoterNumbers,
    VoterWeights,
)
from codemmlu.report.score_table import Bits, Column, ScoreTable, letter_counts
from codemmlu.report.statistics import LEVEL, wilson
from codemmlu.voting.ballots import STATUSES
from codemmlu.voting.costs import Costs
from codemmlu.voting.model import EnsembleModel
from codemmlu.voting.sums import Score

VOTE = "vote"


def chance(scores: ScoreTable, among: Bits | None = None) -> float | None:
    """Return the accuracy of guessing on the labelled questions: the mean of 1 / number of choices."""
    odds = 1 / scores.choices[scores.labelled if among is None else scores.labelled & among].astype(float)
    return float(odds.mean()) if odds.size else None


def cost(sums: Costs) -> Cost:
    """Return what answers cost."""
    return Cost(
        prompt_tokens=sums.prompt_tokens,
        cached_tokens=sums.cached_tokens,
        generated_tokens=sums.generated_tokens,
        computed_tokens=sums.computed_tokens,
        readings=sums.readings,
        turns=sums.turns,
        seconds=sums.seconds,
    )


def voter(scores: ScoreTable, name: str, sums: Costs) -> VoterNumbers:
    """Return the numbers of one voter.

    Args:
        scores: The score table.
        name: The voter.
        sums: The cost sums of all answers that the voter needs, as if it were the only voter.

    Returns:
        Accuracies (None without labels), counts, cost and predicted letters.
    """
    column, paid = scores.voters[name], cost(sums)
    right, asked = statistics.accuracy(scores, column)
    guessed = chance(scores, column.asked)
    above = right / asked - guessed if asked and guessed is not None else None
    computed = paid.computed_tokens
    alone = scores.alone.get(name)
    return VoterNumbers(
        **vars(_accuracy(scores, column)),
        **vars(_statuses(column)),
        **vars(paid),
        above_chance_per_million_computed=above * 1e6 / computed if above is not None and computed else None,
        letters_said=letter_counts(column.letters),
        coverage=statistics.coverage(scores, column),
        calibration=VoterCalibration(
            as_said=statistics.calibration(scores, column, column.sure),
            fitted=statistics.calibration(scores, column, column.calibrated),
        ),
        letter_mass=sums.mass / sums.readings if sums.readings else None,
        reading_alone=_share((alone == scores.right)[scores.labelled & (alone >= 0)]) if alone is not None else None,
    )


def vote(scores: ScoreTable, rule: str, rank: int | None = None) -> VoteReport:
    """Return the vote's numbers, with the voters' denominators: no question that every voter failed on."""
    column = scores.rules[rule]
    return VoteReport(
        rule=rule,
        **vars(_accuracy(scores, column)),
        answered=int((column.letters >= 0).sum()),
        letters_said=letter_counts(column.letters),
        coverage=statistics.coverage(scores, column),
        calibration=statistics.calibration(scores, column, column.sure),
        rank=rank,
    )


def rules(scores: ScoreTable, fitted: EnsembleModel) -> dict[str, RuleReport]:
    """Return every rule's accuracies; the cross-validated one is on rows that no weight was fitted on."""
    return {
        name: RuleReport(**vars(_accuracy(scores, column)), cross_validated=fitted.cross_validated.get(name))
        for name, column in scores.rules.items()
    }


def weights(fitted: EnsembleModel, names: Sequence[str]) -> dict[str, VoterWeights]:
    """Return the fitted numbers of each voter, with the skill by agreement."""
    return {name: VoterWeights(**vars(fitted.of(name)), agreed=fitted.agreed.get(name)) for name in names}


def comparisons(scores: ScoreTable, rule: str) -> tuple[list[Pair], dict[str, int | None]]:
    """Return every pair of voters, and the rank of each; with several voters the vote is among them."""
    columns = dict(scores.voters)
    if len(columns) > 1:
        columns[VOTE] = scores.rules[rule]
    pairs = statistics.compare(scores, columns)
    return pairs, statistics.ranks(scores, columns, pairs)


def headline(report: Report) -> str:
    """Return the result of a run in a sentence or two."""
    result, several = report.vote, len(report.voters) > 1
    who = f"The vote ({result.rule})" if several else next(iter(report.voters))
    if result.accuracy is None or result.interval is None:
        if report.labelled:
            return f"No accuracy: all answers to the {report.labelled:,} labelled questions failed."
        unanswered = report.questions - result.answered
        rest = f"{unanswered:,} of {report.questions:,} questions have no answer" if unanswered else "none is blank"
        return f"{result.answered:,} questions answered, {rest}. No accuracy: no question is labelled."
    low, high = result.interval
    sentence = (
        f"{who} answers {result.accuracy:.1%} right (95 % interval {low:.1%} to {high:.1%}; guessing "
        f"{report.chance:.1%}) of {result.asked:,} labelled questions."
    )
    return f"{sentence} {_against_best(report)}" if several else sentence


def _against_best(report: Report) -> str:
    """Return a sentence on how the vote compares with the best voter."""
    asked = report.vote.asked
    rows = ((name, row.accuracy) for name, row in report.voters.items() if row.asked == asked)
    known = {name: accuracy for name, accuracy in rows if accuracy is not None}
    if not known:
        return ""
    best = max(known, key=lambda name: known[name])
    pair = next(row for row in report.comparisons if (row.first, row.second) == (best, VOTE))
    significance = f"p = {pair.p_holm:.2g}, corrected for {len(report.comparisons)} pairs"
    if pair.p_holm >= LEVEL:
        return f"The difference to its best voter, {best} ({known[best]:.1%}), is not significant ({significance})."
    better = "better" if pair.only_second > pair.only_first else "worse"
    return f"That is {better} than its best voter, {best} ({known[best]:.1%}; {significance})."


def leakage(scores: ScoreTable) -> Leakage | None:
    """Return how many questions are among the examples, and every voter's accuracy with and without them.

    Returns:
        The counts and the accuracies; None where no voter looked at examples.
    """
    seen = scores.verbatim >= 0
    if not seen.any():
        return None
    verbatim = scores.verbatim == 1
    near = np.nan_to_num(scores.nearest, nan=-1.0).astype(np.float32) >= np.float32(TWINS)  # float32, as stored
    leaked = verbatim | (seen & near)
    table = {}
    for name, column in scores.voters.items():
        on_leaked, on_rest = (_asked_accuracy(scores, column, among) for among in (leaked, seen & ~leaked))
        table[name] = LeakageSplit(leaked=on_leaked, rest=on_rest)
    return Leakage(
        looked_up=int(seen.sum()),
        verbatim=int(verbatim.sum()),
        near_verbatim=int(leaked.sum()),
        threshold=TWINS,
        voters=table,
    )


def order_sensitivity(sums: Mapping[str, Mapping[str, Score]]) -> dict[str, OrderSensitivity] | None:
    """Return how voters' accuracy depends on the position of the right choice; None where not measured."""
    return {
        name: statistics.order_sensitivity(
            {letter: score.right / score.asked if score.asked else None for letter, score in by_letter.items()},
            max((score.asked for score in by_letter.values()), default=0),
        )
        for name, by_letter in sums.items()
    } or None


def _accuracy(scores: ScoreTable, column: Column) -> Accuracies:
    right, asked = statistics.accuracy(scores, column)
    answered = int((scores.counted(column) & (column.letters >= 0)).sum())
    return Accuracies(
        accuracy=right / asked if asked else None,
        accuracy_answered=right / answered if answered else None,
        asked=asked,
        interval=wilson(right, asked),
        bootstrap=statistics.bootstrap(right, asked),
    )


def _statuses(column: Column) -> Counts:
    return Counts(**{status: int((column.status == code).sum()) for code, status in enumerate(STATUSES)})


def _asked_accuracy(scores: ScoreTable, column: Column, among: Bits) -> AskedAccuracy:
    right, asked = statistics.accuracy(scores, column, among)
    return AskedAccuracy(asked=asked, accuracy=right / asked if asked else None)


def _share(hits: Bits) -> float | None:
    return float(hits.mean()) if hits.size else None
