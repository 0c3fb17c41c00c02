"""Statistics one can trust: intervals, paired comparisons, ranks, calibration, coverage, slices, hindsight.

Closed forms stand here and scipy.special has the rest: scipy.stats and statsmodels, which have the same tests, take
seconds to import at the end of every run. tests/report/test_statistics.py compares the results with theirs.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from codemmlu.report.score_table import Bits, Column, Numbers, ScoreTable

# From this probability on, chance alone explains a difference well enough.
LEVEL = 0.05
_Z = NormalDist().inv_cdf(1 - LEVEL / 2)
_DRAWS = 10_000
_BINS = 10
# Subsets of more voters, and on more questions, take too long for what hindsight is worth.
_SUBSETS_OF, _SUBSETS_ON = 8, 100_000
_MOST_SUBJECTS = 60


def wilson(right: int, asked: int) -> list[float] | None:
    """The 95 % interval of a proportion (Wilson 1927). None of nothing."""
    if not asked:
        return None
    share, square = right / asked, _Z * _Z
    centre = (share + square / (2 * asked)) / (1 + square / asked)
    half = _Z / (1 + square / asked) * math.sqrt(share * (1 - share) / asked + square / (4 * asked * asked))
    return [0.0 if right == 0 else centre - half, 1.0 if right == asked else centre + half]


def bootstrap(right: int, asked: int) -> list[float] | None:
    """The 95 % percentile interval of a proportion by the bootstrap (Efron 1979). None of nothing.

    Drawing as many questions again with replacement and counting the right ones is one binomial draw.
    """
    if not asked:
        return None
    draws = np.random.default_rng(0).binomial(asked, right / asked, _DRAWS) / asked
    return _middle(draws)


def compare(sheet: ScoreTable, columns: Mapping[str, Column]) -> list[dict[str, Any]]:
    """Every pair of voters on the labelled questions that both were asked: who is right where the other is wrong.

    p: exact McNemar (1947), two-sided; p_holm: corrected for the number of pairs (Holm 1979)
    interval: of the difference in accuracy, see `_paired`; only_first: right to wrong, going to the second
    """
    found: list[dict[str, Any]] = []
    for first, second in itertools.combinations(columns, 2):
        both = sheet.counted(columns[first]) & sheet.counted(columns[second])
        one, other = sheet.correct(columns[first])[both], sheet.correct(columns[second])[both]
        only_first, only_second = int((one & ~other).sum()), int((other & ~one).sum())
        asked, right = int(both.sum()), int((one & other).sum())
        found.append(
            {
                "first": first,
                "second": second,
                "asked": asked,
                "both_right": right,
                "only_first": only_first,
                "only_second": only_second,
                "both_wrong": asked - right - only_first - only_second,
                "difference": (only_second - only_first) / asked if asked else None,
                "interval": _paired(only_first, only_second, asked),
                "p": mcnemar(only_first, only_second),
            }
        )
    for pair, corrected in zip(found, holm([float(pair["p"]) for pair in found]), strict=True):
        pair["p_holm"] = corrected
    return found


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided McNemar test: whether two voters differ on the questions that one of them alone has right."""
    from scipy import special  # slow to import, and one voter needs no test

    differing = only_first + only_second
    return min(1.0, 2 * float(special.bdtr(min(only_first, only_second), differing, 0.5)))


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being several (Holm 1979)."""
    corrected = [0.0] * len(values)
    most = 0.0
    for place, number in enumerate(sorted(range(len(values)), key=lambda number: values[number])):
        most = max(most, min(1.0, values[number] * (len(values) - place)))
        corrected[number] = most
    return corrected


def ranks(
    sheet: ScoreTable, columns: Mapping[str, Column], pairs: Sequence[Mapping[str, Any]]
) -> dict[str, int | None]:
    """One more than the number of voters that are better beyond chance: those that cannot be told apart share a rank.
    None without labels."""
    better = dict.fromkeys(columns, 0)
    for pair in pairs:
        if pair["p_holm"] < LEVEL:
            better[pair["first"] if pair["difference"] > 0 else pair["second"]] += 1
    return {name: better[name] + 1 if sheet.counted(columns[name]).any() else None for name in columns}


def calibration(sheet: ScoreTable, column: Column, sure: Numbers) -> dict[str, Any] | None:
    """How far a voter's probabilities are from how often it is right, over bins of equal width (Guo et al. 2017).

    error: the mean distance, weighed by the bins' questions. None where no probability can be told right or wrong.
    """
    told = sheet.counted(column) & np.isfinite(sure)
    if not told.any():
        return None
    said, right = np.clip(sure[told], 0.0, 1.0), sheet.correct(column)[told]
    place = np.minimum((said * _BINS).astype(int), _BINS - 1)
    bins = []
    for number in range(_BINS):
        inside = place == number
        if inside.any():
            bins.append(
                {"count": int(inside.sum()), "said": float(said[inside].mean()), "right": float(right[inside].mean())}
            )
    error = sum(one["count"] * abs(one["said"] - one["right"]) for one in bins) / len(said)
    return {"error": error, "bins": bins}


def coverage(sheet: ScoreTable, column: Column) -> list[dict[str, Any]]:
    """Accuracy on the share of labelled questions that a voter is surest of, in tenths.

    Surest: by the probability of its answer; of equally sure ones the first in the file comes first.
    """
    counted = sheet.counted(column)
    asked = int(counted.sum())
    told = np.flatnonzero(counted & np.isfinite(column.sure))
    order = told[np.argsort(-np.round(column.sure[told], 6), kind="stable")]
    right = np.cumsum(sheet.correct(column)[order])
    curve = []
    for tenth in range(1, 11):
        count = round(asked * tenth / 10)
        if 0 < count <= len(order):
            surer = float(np.round(column.sure[order[count - 1]], 6))
            curve.append({"coverage": count / asked, "accuracy": int(right[count - 1]) / count, "surer_than": surer})
    return curve


def slices(sheet: ScoreTable, rule: str) -> dict[str, list[dict[str, Any]]]:
    """Every voter's accuracy, and the vote's, by subject, by number of choices and by length: of labelled questions."""
    groups: dict[str, list[tuple[str, Bits]]] = {"subject": [], "choices": [], "characters": []}
    names, counts = np.unique(sheet.subjects[sheet.labelled & (sheet.subjects >= 0)], return_counts=True)
    for name in names[np.argsort(-counts, kind="stable")][:_MOST_SUBJECTS]:
        groups["subject"].append((sheet.subject_names[name], sheet.subjects == name))
    for size in np.unique(sheet.choices[sheet.labelled]):
        groups["choices"].append((str(size), sheet.choices == size))
    if sheet.labelled.any():
        lengths = sheet.characters[sheet.labelled]
        edges = np.unique(np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1), method="lower"))
        for number, (low, high) in enumerate(itertools.pairwise(edges)):
            inside = (sheet.characters >= low if number == 0 else sheet.characters > low) & (sheet.characters <= high)
            groups["characters"].append((f"{low if number == 0 else low + 1:,} to {high:,}", inside))
    return {
        kind: [
            {
                "name": name,
                "questions": int((inside & sheet.labelled).sum()),
                "voters": _within(sheet, sheet.voters, inside),
                "vote": _within(sheet, {rule: sheet.rules[rule]}, inside)[rule],
            }
            for name, inside in some
        ]
        for kind, some in groups.items()
    }


def agreement(sheet: ScoreTable) -> dict[str, dict[str, float | None]]:
    """The share of questions on which two voters say the same letter, of those that both answer. Needs no labels."""
    table: dict[str, dict[str, float | None]] = {}
    for name, one in sheet.voters.items():
        table[name] = {}
        for other, its in sheet.voters.items():
            both = (one.letters >= 0) & (its.letters >= 0)
            table[name][other] = float((one.letters == its.letters)[both].mean()) if both.any() else None
    return table


def hindsight(sheet: ScoreTable) -> dict[str, Any] | None:
    """What could have been, had one known the right letters; None without labels. Not a result, but a bound.

    oracle: the share of questions on which any voter is right; best_subset: of all sets of voters the one whose
    majority, ties broken by how sure its voters are, is right most often
    """
    columns = sheet.voters
    # As in every accuracy: where all have failed, nothing could have been.
    among = np.logical_or.reduce([sheet.counted(column) for column in columns.values()])
    if not among.any():
        return None
    right = np.array([sheet.correct(column)[among] for column in columns.values()])
    oracle = float(right.any(axis=0).mean())
    best = None
    if 1 < len(columns) <= _SUBSETS_OF and among.sum() <= _SUBSETS_ON:
        said = np.array([column.letters[among] for column in columns.values()])
        sure = np.array([np.nan_to_num(column.sure[among], nan=0.5) for column in columns.values()])
        gold = sheet.right[among]
        size = int(said.max(initial=0)) + 1
        ballots = (np.arange(size)[:, None] == said[:, None, :]) * (1 + 1e-3 * np.clip(sure, 0, 1))[:, None, :]
        sets = [s for n in range(1, len(columns) + 1) for s in itertools.combinations(range(len(columns)), n)]
        hits = [float(_majority_right(ballots[list(chosen)].sum(axis=0), gold).mean()) for chosen in sets]
        place = int(np.argmax(hits))  # the first: of equals the smallest
        best = {"voters": [list(columns)[i] for i in sets[place]], "accuracy": hits[place]}
    return {"oracle": oracle, "best_subset": best}


def order_sensitivity(accuracies: Mapping[str, float | None], asked: int) -> dict[str, Any]:
    """Accuracy with the right choice at each letter in turn, and how far apart these are (arXiv:2410.01999).

    std: of the accuracies, over these letters alone
    """
    known = [value for value in accuracies.values() if value is not None]
    return {"asked": asked, "accuracy": dict(accuracies), "std": float(np.std(known)) if known else None}


def accuracy(sheet: ScoreTable, column: Column, among: Bits | None = None) -> tuple[int, int]:
    """How many labelled questions a voter has right, and of how many."""
    counted = sheet.counted(column) if among is None else sheet.counted(column) & among
    return int(sheet.correct(column)[counted].sum()), int(counted.sum())


def _within(sheet: ScoreTable, columns: Mapping[str, Column], inside: Bits) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, column in columns.items():
        right, asked = accuracy(sheet, column, inside)
        found[name] = right / asked if asked else None
    return found


def _majority_right(counts: Numbers, gold: np.ndarray[Any, Any]) -> Bits:
    found: Bits = (counts.argmax(axis=0) == gold) & (counts.max(axis=0) > 0)
    return found


def _paired(only_first: int, only_second: int, asked: int) -> list[float] | None:
    """The difference of two accuracies on the same questions: from bootstrap draws, and never narrower than what the
    exact test beside it leaves open (Clopper and Pearson 1934, of the questions on which one alone is right)."""
    if not asked:
        return None
    differing = only_first + only_second
    if not differing:
        most = _exact(0, asked)[1]
        return [-most, most]
    shares = np.array([only_first, only_second, asked - differing]) / asked
    draws = np.random.default_rng(0).multinomial(asked, shares, _DRAWS)
    low, high = _middle((draws[:, 1] - draws[:, 0]) / asked)
    least, most = (differing / asked * (2 * share - 1) for share in _exact(only_second, differing))
    return [min(low, least), max(high, most)]


def _exact(count: int, of: int) -> tuple[float, float]:
    """The exact 95 % interval of a proportion (Clopper and Pearson 1934)."""
    from scipy import special

    tail = LEVEL / 2
    low = float(special.betaincinv(count, of - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, of - count, 1 - tail)) if count < of else 1.0
    return low, high


def _middle(draws: Numbers) -> list[float]:
    low, high = np.quantile(draws, (0.025, 0.975))
    return [float(low), float(high)]
