"""Statistics: intervals, paired comparisons, ranks, calibration, coverage, slices, oracle bounds.

Closed forms are written out here and scipy.special has the rest: scipy.stats and statsmodels, which have the same
tests, take seconds to import at the end of every run. tests/report/test_statistics.py compares the results.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from codemmlu.report.results import (
    BestSubset,
    Calibration,
    CalibrationBin,
    CoveragePoint,
    Interval,
    OracleBounds,
    OrderSensitivity,
    Pair,
    Slice,
    Slices,
)
from codemmlu.report.score_table import Bits, Column, Numbers, ScoreTable

# The significance level: from this probability on, chance alone explains a difference well enough.
LEVEL = 0.05
_Z = NormalDist().inv_cdf(1 - LEVEL / 2)
_DRAWS = 10_000
_BINS = 10
# The best subset of more voters, or on more questions, takes too long for what this bound is worth.
_SUBSETS_OF, _SUBSETS_ON = 8, 100_000
_MOST_SUBJECTS = 60


def wilson(right: int, asked: int) -> Interval | None:
    """Return the 95 % interval of a proportion (Wilson 1927); None without questions."""
    if not asked:
        return None
    share, square = right / asked, _Z * _Z
    centre = (share + square / (2 * asked)) / (1 + square / asked)
    half = _Z / (1 + square / asked) * math.sqrt(share * (1 - share) / asked + square / (4 * asked * asked))
    return 0.0 if right == 0 else centre - half, 1.0 if right == asked else centre + half


def bootstrap(right: int, asked: int) -> Interval | None:
    """Return the 95 % percentile bootstrap interval of a proportion (Efron 1979); None without questions."""
    if not asked:
        return None
    # Resampling all questions with replacement and counting the right ones is one binomial draw.
    draws = np.random.default_rng(0).binomial(asked, right / asked, _DRAWS) / asked
    return _middle(draws)


def compare(scores: ScoreTable, columns: Mapping[str, Column]) -> list[Pair]:
    """Compare every pair of voters on the labelled questions that both were asked.

    Args:
        scores: The score table.
        columns: The voters, and the vote, by name.

    Returns:
        One row per pair, with `p_holm` corrected for the number of pairs.
    """
    pairs = [_compared(scores, columns, names) for names in itertools.combinations(columns, 2)]
    corrected = holm([pair.p for pair in pairs])
    return [pair.model_copy(update={"p_holm": p}) for pair, p in zip(pairs, corrected, strict=True)]


def _compared(scores: ScoreTable, columns: Mapping[str, Column], names: tuple[str, str]) -> Pair:
    """Compare two voters, as if they were the only pair."""
    first, second = (columns[name] for name in names)
    both = scores.counted(first) & scores.counted(second)
    first_right, second_right = scores.correct(first)[both], scores.correct(second)[both]
    only_first, only_second = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    asked, right = int(both.sum()), int((first_right & second_right).sum())
    p = mcnemar(only_first, only_second)
    return Pair(
        first=names[0],
        second=names[1],
        asked=asked,
        both_right=right,
        only_first=only_first,
        only_second=only_second,
        both_wrong=asked - right - only_first - only_second,
        difference=(only_second - only_first) / asked if asked else None,
        interval=_paired(only_first, only_second, asked),
        p=p,
        p_holm=p,
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided McNemar p-value, from the questions that one voter alone has right."""
    from scipy import special  # slow to import, and one voter needs no test

    differing = only_first + only_second
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), differing, 0.5)))


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple tests (Holm 1979)."""
    corrected = [0.0] * len(values)
    most = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        most = max(most, min(1.0, values[index] * (len(values) - rank)))
        corrected[index] = most
    return corrected


def ranks(scores: ScoreTable, columns: Mapping[str, Column], pairs: Sequence[Pair]) -> dict[str, int | None]:
    """Return ranks, which voters share whose difference is not significant; None without labels.

    Args:
        scores: The score table.
        columns: The voters, and the vote, by name.
        pairs: The result of `compare`.

    Returns:
        By name, one more than the number of voters that are significantly better.
    """
    better = dict.fromkeys(columns, 0)
    for pair in pairs:
        if pair.p_holm < LEVEL:
            better[pair.first if pair.only_second > pair.only_first else pair.second] += 1
    return {name: better[name] + 1 if scores.counted(columns[name]).any() else None for name in columns}


def calibration(scores: ScoreTable, column: Column, confidence: Numbers) -> Calibration | None:
    """Return the expected calibration error, over bins of equal width (Guo et al. 2017).

    Args:
        scores: The score table.
        column: The voter.
        confidence: The probability of the voter's letter on each question.

    Returns:
        The error with its bins; None where no question has both a confidence and a label.
    """
    usable = scores.counted(column) & np.isfinite(confidence)
    if not usable.any():
        return None
    stated, right = np.clip(confidence[usable], 0.0, 1.0), scores.correct(column)[usable]
    bin_numbers = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = bin_numbers == number
        if inside.any():
            said, share = float(stated[inside].mean()), float(right[inside].mean())
            bins.append(CalibrationBin(count=int(inside.sum()), said=said, right=share))
    error = sum(row.count * abs(row.said - row.right) for row in bins) / len(stated)
    return Calibration(error=error, bins=bins)


def coverage(scores: ScoreTable, column: Column) -> list[CoveragePoint]:
    """Return accuracy on the tenths of the labelled questions that a voter is most confident of."""
    counted = scores.counted(column)
    asked = int(counted.sum())
    usable = np.flatnonzero(counted & np.isfinite(column.sure))
    # Confidence is the probability of the answer; of equally confident answers, the first in the file comes first.
    order = usable[np.argsort(-np.round(column.sure[usable], 6), kind="stable")]
    right = np.cumsum(scores.correct(column)[order])
    curve = []
    for tenth in range(1, 11):
        count = round(asked * tenth / 10)
        if 0 < count <= len(order):
            surer = float(np.round(column.sure[order[count - 1]], 6))
            accuracy = int(right[count - 1]) / count
            curve.append(CoveragePoint(coverage=count / asked, accuracy=accuracy, surer_than=surer))
    return curve


def slices(scores: ScoreTable, rule: str) -> Slices:
    """Return every voter's and the vote's accuracy by subject, number of choices and question length."""
    by_subject, by_size, by_length = [], [], []
    names, counts = np.unique(scores.subjects[scores.labelled & (scores.subjects >= 0)], return_counts=True)
    # Of equally frequent subjects the first in the file comes first: partitions, and so codes, come in any order.
    codes, firsts = np.unique(scores.subjects, return_index=True)
    for name in names[np.lexsort((firsts[np.searchsorted(codes, names)], -counts))][:_MOST_SUBJECTS]:
        by_subject.append(_slice(scores, rule, scores.subject_names[name], scores.subjects == name))
    for size in np.unique(scores.choices[scores.labelled]):
        by_size.append(_slice(scores, rule, str(size), scores.choices == size))
    if scores.labelled.any():
        lengths = scores.characters[scores.labelled]
        edges = np.unique(np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1), method="lower"))
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            above = scores.characters >= low if number == 0 else scores.characters > low
            inside = above & (scores.characters <= high)
            by_length.append(_slice(scores, rule, f"{low if number == 0 else low + 1:,} to {high:,}", inside))
    return Slices(subject=by_subject, choices=by_size, characters=by_length)


def _slice(scores: ScoreTable, rule: str, name: str, inside: Bits) -> Slice:
    return Slice(
        name=name,
        questions=int((inside & scores.labelled).sum()),
        voters={voter: _within(scores, column, inside) for voter, column in scores.voters.items()},
        vote=_within(scores, scores.rules[rule], inside),
    )


def agreement(scores: ScoreTable) -> dict[str, dict[str, float | None]]:
    """Return how often two voters name the same letter where both answer; this needs no labels."""
    table: dict[str, dict[str, float | None]] = {}
    for first, column in scores.voters.items():
        table[first] = {}
        for second, other in scores.voters.items():
            both = (column.letters >= 0) & (other.letters >= 0)
            table[first][second] = float((column.letters == other.letters)[both].mean()) if both.any() else None
    return table


def hindsight(scores: ScoreTable) -> OracleBounds | None:
    """Return what knowing the right letters would have achieved: oracle bounds, not a result.

    Returns:
        The share of questions on which any voter is right, and the best set of voters; None without labels.
    """
    columns = scores.voters
    # Questions that all voters failed on are left out, as in every accuracy.
    among = np.logical_or.reduce([scores.counted(column) for column in columns.values()])
    if not among.any():
        return None
    right = np.array([scores.correct(column)[among] for column in columns.values()])
    oracle = float(right.any(axis=0).mean())
    best = None
    if 1 < len(columns) <= _SUBSETS_OF and among.sum() <= _SUBSETS_ON:
        named = np.array([column.letters[among] for column in columns.values()])
        confidence = np.array([np.nan_to_num(column.sure[among], nan=0.5) for column in columns.values()])
        gold = scores.right[among]
        size = int(named.max(initial=0)) + 1
        ballots = (np.arange(size)[:, None] == named[:, None, :]) * (1 + 1e-3 * np.clip(confidence, 0, 1))[:, None, :]
        sets = [s for n in range(1, len(columns) + 1) for s in itertools.combinations(range(len(columns)), n)]
        hits = [float(_majority_right(ballots[list(chosen)].sum(axis=0), gold).mean()) for chosen in sets]
        index = int(np.argmax(hits))  # the first, and so the smallest, of equally good sets
        best = BestSubset(voters=[list(columns)[i] for i in sets[index]], accuracy=hits[index])
    return OracleBounds(oracle=oracle, best_subset=best)


def order_sensitivity(accuracies: Mapping[str, float | None], asked: int) -> OrderSensitivity:
    """Return accuracy by the right choice's letter, and the deviation over letters (arXiv:2410.01999)."""
    known = [value for value in accuracies.values() if value is not None]
    std = float(np.std(known)) if known else None
    return OrderSensitivity(asked=asked, accuracy=dict(accuracies), std=std)


def accuracy(scores: ScoreTable, column: Column, among: Bits | None = None) -> tuple[int, int]:
    """Return how many labelled questions a voter has right, and how many count."""
    counted = scores.counted(column) if among is None else scores.counted(column) & among
    return int(scores.correct(column)[counted].sum()), int(counted.sum())


def _within(scores: ScoreTable, column: Column, inside: Bits) -> float | None:
    right, asked = accuracy(scores, column, inside)
    return right / asked if asked else None


def _majority_right(counts: Numbers, gold: np.ndarray[Any, Any]) -> Bits:
    right: Bits = (counts.argmax(axis=0) == gold) & (counts.max(axis=0) > 0)
    return right


def _paired(only_first: int, only_second: int, asked: int) -> Interval | None:
    """Return the 95 % interval of the difference of two accuracies; None without questions.

    The interval comes from bootstrap draws, and is never narrower than what the exact test beside it leaves open
    (Clopper and Pearson 1934, on the questions that one voter alone has right).

    Returns:
        The lower and the upper end, of the second accuracy minus the first, on the same questions.
    """
    if not asked:
        return None
    differing = only_first + only_second
    if not differing:
        most = _exact(0, asked)[1]
        return -most, most
    shares = np.array([only_first, only_second, asked - differing]) / asked
    draws = np.random.default_rng(0).multinomial(asked, shares, _DRAWS)
    low, high = _middle((draws[:, 1] - draws[:, 0]) / asked)
    least, most = (differing / asked * (2 * share - 1) for share in _exact(only_second, differing))
    return min(low, least), max(high, most)


def _exact(count: int, of: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a proportion (Clopper and Pearson 1934)."""
    from scipy import special

    tail = LEVEL / 2
    low = float(special.betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def _middle(draws: Numbers) -> Interval:
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)
