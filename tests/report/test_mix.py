"""Totals in another file's mix of kinds."""

from pathlib import Path

import pytest

from codemmlu.dataset.kind import KindRules
from codemmlu.errors import UserError
from codemmlu.report.evidence_results import KindNumbers, KindReport, MixTotal
from codemmlu.report.mix import mixed, shares_of


def numbers(right: int, asked: int) -> KindNumbers:
    return KindNumbers(
        answered=asked, right=right, asked=asked, accuracy=right / asked, accuracy_answered=None, interval=None
    )


def kind(voter: KindNumbers, vote: KindNumbers) -> KindReport:
    return KindReport(questions=vote.asked, labelled=vote.asked, voters={"v": voter}, vote=vote)


KINDS = {
    "output": kind(numbers(8, 10), numbers(9, 10)),
    "defect": kind(numbers(0, 90), numbers(9, 90)),
}


def test_each_kind_counts_by_its_share() -> None:
    total = mixed(KINDS, {"output": 0.5, "defect": 0.5})
    assert total.voters["v"].accuracy == pytest.approx(0.4)
    assert total.vote.accuracy == pytest.approx(0.5)
    assert total.vote.interval is not None
    low, high = total.vote.interval
    assert low < 0.5 < high


def test_a_kind_without_a_label_leaves_no_total() -> None:
    assert mixed(KINDS, {"knowledge": 1.0}).vote == MixTotal(accuracy=None, interval=None)


def test_a_file_without_labels_gives_its_own_shares(tmp_path: Path) -> None:
    source = tmp_path / "mix.csv"
    rows = ["a,\"Which planet is red?\",\"['Mars', 'Venus']\"", "b,\"Why?\",\"['Runtime Error', 'Compile Error']\""]
    source.write_text("task_id,question,choices\n" + "\n".join(rows), encoding="utf-8")
    assert shares_of(str(source)) == {"knowledge": 0.5, "defect": 0.5}


def test_weights_are_shares_and_kinds_are_checked() -> None:
    assert shares_of({"output": 3, "defect": 1}) == {"output": 0.75, "defect": 0.25}
    assert shares_of({"sql": 1}, KindRules((("sql", "SELECT"),))) == {"sql": 1}
    with pytest.raises(UserError, match="there is no kind 'essay'; kinds: knowledge, output"):
        shares_of({"essay": 1})
    with pytest.raises(UserError, match=r"report\.mix: .*nowhere"):
        shares_of("/nowhere.csv")
