"""Statistics: known values, those of scipy.stats and statsmodels, and what is left out."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from codemmlu.report import statistics
from codemmlu.report.results import BestSubset, Pair, Slice
from codemmlu.report.statistics import wilson
from tests.support.reports import pair_report
from tests.support.score_tables import Said, sheet


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_known_values(right: int, n: int, low: float, high: float) -> None:
    """The last is the worked example of Newcombe (1998)."""
    assert wilson(right, n) == pytest.approx([low, high], abs=1e-4)


def test_of_nothing_there_is_no_interval() -> None:
    assert wilson(0, 0) is None
    assert statistics.bootstrap(0, 0) is None


@settings(max_examples=30)
@given(st.integers(1, 5000), st.data())
def test_wilson_is_that_of_scipy(n: int, data: st.DataObject) -> None:
    from scipy import stats

    right = data.draw(st.integers(0, n) | st.sampled_from([0, n]))
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right, n) == pytest.approx([expected.low, expected.high], abs=1e-12)


def test_of_many_the_bootstrap_is_near_the_normal_interval() -> None:
    found = statistics.bootstrap(4_000, 10_000)
    assert found == pytest.approx([0.4 - 1.96 * 0.0049, 0.4 + 1.96 * 0.0049], abs=5e-4)


def test_pairs_are_counted_on_what_both_were_asked() -> None:
    right: list[str | None] = ["A"] * 8 + [None]
    one: list[Said] = ["A", "A", "B", "B", "A", "A", "failed", None, "A"]
    two: list[Said] = ["A", "B", "A", "B", "B", "skipped", "A", "A", "B"]
    (pair,) = statistics.compare(*_both(right, one, two))
    counts = {name: getattr(pair, name) for name in ("asked", "both_right", "only_first", "only_second", "both_wrong")}
    assert counts == {"asked": 6, "both_right": 1, "only_first": 2, "only_second": 2, "both_wrong": 1}
    assert (pair.difference, pair.p) == (0.0, 1.0)


@settings(max_examples=15)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 100))
def test_an_interval_says_what_the_test_beside_it_says(first: int, second: int, more: int) -> None:
    pair = _pair(first, second, more)
    assert pair.interval is not None
    assert pair.difference is not None
    low, high = pair.interval
    assert low <= pair.difference <= high
    assert low < high
    assert -1 <= low <= high <= 1
    if pair.p > 0.05:
        assert low <= 0 <= high


@settings(max_examples=30)
@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 60))
def test_an_interval_is_never_narrower_than_the_exact_one(first: int, second: int, more: int) -> None:
    from statsmodels.stats import proportion

    assume(first + second)
    share = (first + second) / (first + second + more)
    exact = [share * (2 * part - 1) for part in proportion.proportion_confint(second, first + second, method="beta")]
    interval = _pair(first, second, more).interval
    assert interval is not None
    low, high = interval
    assert low <= exact[0] + 1e-9
    assert high >= exact[1] - 1e-9
    if not more and not first * second:  # every draw of the bootstrap is the same, so the interval is the exact one
        assert [low, high] == pytest.approx(exact, abs=1e-9)


@settings(max_examples=30)
@given(st.integers(1, 2000))
def test_where_nothing_differs_the_interval_is_exact(asked: int) -> None:
    from statsmodels.stats import proportion

    most = float(proportion.proportion_confint(0, asked, method="beta")[1])
    assert _pair(0, 0, asked).interval == pytest.approx([-most, most], abs=1e-9)


def test_hindsight_is_of_the_questions_that_an_accuracy_is_of() -> None:
    gold: list[str | None] = ["A"] * 10
    one: list[Said] = [*"AAAAA", *["failed"] * 5]
    found = statistics.hindsight(sheet(gold, {"one": one, "two": one}))
    assert found is not None
    assert (found.oracle, found.best_subset and found.best_subset.accuracy) == (1.0, 1.0)


def _pair(first: int, second: int, more: int) -> Pair:
    """Compare two voters: so many questions only the first has right, only the second, and neither."""
    gold: list[str | None] = ["A"] * (first + second + more)
    one: list[Said] = [*"A" * first, *"B" * (second + more)]
    two: list[Said] = [*"B" * first, *"A" * second, *"B" * more]
    (pair,) = statistics.compare(*_both(gold, one, two))
    return pair


def _both(right: list[str | None], one: list[Said], two: list[Said]) -> tuple[Any, Any]:
    whole = sheet(right, {"one": one, "two": two})
    return whole, whole.voters


@settings(max_examples=30)
@given(st.integers(0, 60) | st.integers(0, 20_000), st.integers(0, 60) | st.integers(0, 20_000))
@example(0, 0)
@example(7, 7)
def test_mcnemar_is_that_of_statsmodels_and_scipy(first: int, second: int) -> None:
    from scipy import stats
    from statsmodels.stats import contingency_tables

    expected = contingency_tables.mcnemar([[0, first], [second, 0]], exact=True).pvalue
    assert statistics.mcnemar(first, second) == pytest.approx(expected, rel=1e-9, abs=1e-280)
    if first + second:
        assert statistics.mcnemar(first, second) == pytest.approx(stats.binomtest(first, first + second).pvalue)


def test_holm_by_hand() -> None:
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm([]) == []


@pytest.mark.parametrize("count", [1, 2, 9, 40])
def test_holm_is_that_of_statsmodels(count: int) -> None:
    """Rounded: some values are equal."""
    from statsmodels.stats import multitest

    values = np.random.default_rng(count).beta(0.3, 1, count).round(2).tolist()
    assert statistics.holm(values) == pytest.approx(list(multitest.multipletests(values, method="holm")[1]))


def test_without_a_significant_difference_voters_share_a_rank() -> None:
    right: list[str | None] = ["A"] * 100
    good, fair, poor = (["A"] * n + ["B"] * (100 - n) for n in (80, 78, 30))
    whole = sheet(right, {"good": good, "poor": poor, "fair": fair})
    pairs = statistics.compare(whole, whole.voters)
    assert statistics.ranks(whole, whole.voters, pairs) == {"good": 1, "poor": 3, "fair": 1}


def test_without_labels_nobody_has_a_rank() -> None:
    whole = sheet([None], {"one": ["A"], "two": ["B"]})
    pairs = statistics.compare(whole, whole.voters)
    assert statistics.ranks(whole, whole.voters, pairs) == {"one": None, "two": None}
    assert pairs[0].difference is None


def test_calibration_by_hand() -> None:
    """Ten answers at 0.95, nine right; ten at 0.55, three right: (0.05 + 0.25) / 2."""
    said: list[Said] = []
    said += [("A", 0.95)] * 9 + [("B", 0.95)] + [("A", 0.55)] * 3 + [("B", 0.55)] * 7
    whole = sheet(["A"] * 20, {"v": said})
    found = statistics.calibration(whole, whole.voters["v"], whole.voters["v"].sure)
    assert found is not None
    assert found.error == pytest.approx(0.15)
    assert [(one.count, one.right) for one in found.bins] == [(10, 0.3), (10, 0.9)]
    letters = sheet(["A"], {"v": ["A"]})
    assert statistics.calibration(letters, letters.voters["v"], letters.voters["v"].sure) is None


def test_coverage_by_hand() -> None:
    """Ten labelled questions: right where it is sure, wrong where it is not, and silent on two."""
    right: list[str | None] = ["A", "B", "C", "D", "A", None, "C", "B", "D", "A", "B"]
    said: list[Said] = [("A", 0.9), ("B", 0.3), ("C", 0.8), ("A", 0.4), ("A", 0.7), ("B", 0.99), None]
    said += [("C", 0.35), ("D", 0.5), ("B", 0.6), None]
    whole = sheet(right, {"v": said})
    curve = statistics.coverage(whole, whole.voters["v"])
    # 0.9 right, 0.8 right, 0.7 right, 0.6 wrong, 0.5 right, 0.4 wrong, 0.35 wrong, 0.3 right; two never answered
    rights = [1, 2, 3, 3, 4, 4, 4, 5]
    assert [point.coverage for point in curve] == pytest.approx([n / 10 for n in range(1, 9)])
    assert [point.accuracy for point in curve] == pytest.approx([right / n for n, right in enumerate(rights, 1)])
    assert [point.surer_than for point in curve] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3])


def test_of_equally_sure_answers_the_first_in_file_counts_first() -> None:
    whole = sheet(["A"] * 10, {"v": [("A", 0.7)] * 5 + [("B", 0.7)] * 5})
    curve = statistics.coverage(whole, whole.voters["v"])
    assert [point.accuracy for point in curve[:5]] == [1.0] * 5
    assert curve[-1].accuracy == 0.5


@pytest.mark.parametrize(("right", "said"), [([], []), ([None], [("A", 0.9)]), (["A"], [None]), (["A"], ["failed"])])
def test_of_nothing_there_is_no_curve(right: list[str | None], said: list[Said]) -> None:
    whole = sheet(right, {"v": said})
    assert statistics.coverage(whole, whole.voters["v"]) == []


def test_slices_are_of_labelled_questions() -> None:
    whole = sheet(
        ["A", "A", "A", None],
        {"v": ["A", "B", "failed", "A"]},
        subjects=np.array([0, 1, 1, 0], np.int32),
        subject_names=("dbms", "os"),
        choices=np.array([2, 4, 4, 4], np.int8),
        characters=np.array([10, 20, 30, 40], np.int32),
        rules={"log_pool": ["A", "A", "B", "A"]},
    )
    found = statistics.slices(whole, "log_pool")
    assert found.subject == [
        Slice(name="os", questions=2, voters={"v": 0.0}, vote=0.5),
        Slice(name="dbms", questions=1, voters={"v": 1.0}, vote=1.0),
    ]
    assert [(row.name, row.questions, row.voters["v"]) for row in found.choices] == [
        ("2", 1, 1.0),
        ("4", 2, 0.0),
    ]
    assert sum(row.questions for row in found.characters) == 3


def test_equally_frequent_subjects_stand_in_file_order() -> None:
    """Whatever their codes are, which depend on the order in which partitions come."""
    fields = {"subjects": np.array([1, 2, 0, 0], np.int32), "subject_names": ("most", "first", "second")}
    whole = sheet(["A"] * 4, {"v": ["A"] * 4}, rules={"log_pool": ["A"] * 4}, **fields)
    other = {"subjects": np.array([2, 0, 1, 1], np.int32), "subject_names": ("second", "most", "first")}
    turned = sheet(["A"] * 4, {"v": ["A"] * 4}, rules={"log_pool": ["A"] * 4}, **other)
    for table in (whole, turned):
        names = [row.name for row in statistics.slices(table, "log_pool").subject]
        assert names == ["most", "first", "second"]


def test_agreement_needs_no_labels() -> None:
    whole = sheet([None] * 4, {"one": ["A", "B", None, "C"], "two": ["A", "C", "C", "failed"], "mute": [None] * 4})
    found = statistics.agreement(whole)
    assert found["one"] == {"one": 1.0, "two": 0.5, "mute": None}


def test_hindsight_is_a_bound() -> None:
    said: dict[str, list[Said]] = {
        "one": [("A", 0.9), ("B", 0.5), ("B", 0.5), ("B", 0.5)],
        "two": [("B", 0.5), ("A", 0.9), ("B", 0.5), ("A", 0.9)],
    }
    found = statistics.hindsight(sheet(["A"] * 4, said))
    assert found is not None
    assert found.oracle == 0.75
    assert found.best_subset == BestSubset(voters=["one", "two"], accuracy=0.75)
    assert statistics.hindsight(sheet([None], {"one": ["A"]})) is None


def test_a_bin_weighs_what_it_holds() -> None:
    """Three answers at 0.95, all right, and one at 0.55, wrong: (3 x 0.05 + 0.55) / 4."""
    whole = sheet(["A"] * 4, {"v": [("A", 0.95)] * 3 + [("B", 0.55)]})
    found = statistics.calibration(whole, whole.voters["v"], whole.voters["v"].sure)
    assert found is not None
    assert found.error == pytest.approx(0.175)


@pytest.mark.parametrize(("corrected", "rank"), [(0.08, 1), (0.04, 2)])
def test_a_rank_is_told_by_the_corrected_p(corrected: float, rank: int) -> None:
    whole = sheet(["A"], {"one": ["A"], "two": ["B"]})
    pair = pair_report("one", "two", only_first=1, difference=-1.0, p=0.01, p_holm=corrected)
    assert statistics.ranks(whole, whole.voters, [pair]) == {"one": 1, "two": rank}
