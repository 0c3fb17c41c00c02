"""report.html as text: its summary, its tables, how it was made, and that nothing untrusted is markup."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from codemmlu.report import summary
from codemmlu.report.evidence_results import KindNumbers, KindReport
from codemmlu.report.page import Making, page
from codemmlu.report.results import Slice, Slices
from codemmlu.report.schema import ModelReport, Report, VoterReport
from codemmlu.report.statistics import wilson
from codemmlu.voting.costs import cost_sums
from tests.support.reports import report_of, voter_report
from tests.support.rows import answer, question
from tests.support.score_tables import Said, sheet

ODD = "<b>&odd</b>"
MAKING = Making("codemmlu run my.yaml", "out: x", [], {"ray": "2.60.0"}, {"submission.csv": "ab" * 32})


@pytest.fixture(scope="module")
def report() -> Report:
    """A run of two voters on 40 questions of two kinds."""
    good: list[Said] = [*[("A", 0.9)] * 30, *[("B", 0.6)] * 10]
    said: dict[str, list[Said]] = {"good": good, ODD: [("B", 0.5)] * 40}
    whole = sheet(["A"] * 40, said, rules={"log_pool": good}, choices=np.full(40, 4))
    costs = cost_sums([answer(question())])
    pairs, ranks = summary.comparisons(whole, "log_pool")
    numbers = {name: summary.voter(whole, name, costs) for name in said}
    row = KindNumbers(answered=8, right=2, asked=8, accuracy=0.25, accuracy_answered=0.25, interval=wilson(2, 8))
    kind = KindReport(questions=8, labelled=8, voters=dict.fromkeys(said, row), vote=row)
    parts = [Slice(name=name, questions=20, voters={"good": 0.5, ODD: None}, vote=0.5) for name in (ODD, "sql")]
    return report_of(
        questions=40,
        labelled=40,
        chance=0.25,
        voters={name: VoterReport(**vars(voter), rank=ranks[name], model="m") for name, voter in numbers.items()},
        vote=summary.vote(whole, "log_pool", 1),
        comparisons=pairs,
        slices=Slices(subject=parts, choices=[], characters=[]),
        kinds={"fill_in_the_middle": kind},
        models={"m": ModelReport(source=ODD)},
    )


class Tables(HTMLParser):
    """The cells of every table of a page, by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.tables[-1][-1][-1] += data


def test_the_summary_comes_first(report: Report) -> None:
    text = page(report, [], [], MAKING)
    head = re.sub(r"<[^>]+>|\s+", " ", text.partition("<header>")[2].partition("</header>")[0])
    for part in ("Right 75.0%", "95 % interval 59.8% to 85.8%", "Guessing 25.0%", "Answered 40 of 40", "0 failed"):
        assert part in " ".join(head.split())


def test_tables_have_costs_kinds_and_intervals(report: Report) -> None:
    tables = Tables(page(report, [], [], MAKING)).tables
    titles = {table[0][0]: table for table in tables}
    assert titles["kind"][1] == ["fill in the middle", "8", *["0.250 (0.07 to 0.59)"] * 3]
    assert titles["subject"][1][1:] == ["20", "0.500 (0.30 to 0.70)", "–", "0.500 (0.30 to 0.70)"]
    (costs,) = [table for table in tables if "tokens computed" in table[0]]
    assert costs[1][:2] == ["good", "7"]
    assert {len(row) for row in costs} == {9}


def test_it_says_how_to_make_it_again(report: Report) -> None:
    tables = Tables(page(report, [], [], MAKING)).tables
    rows = [row for table in tables for row in table]
    assert ["ray", "2.60.0"] in rows
    assert ["submission.csv", "ab" * 32] in rows
    assert "<pre>codemmlu run my.yaml</pre>" in page(report, [], [], MAKING)


def test_names_are_text_and_one_script_may_run(report: Report) -> None:
    text = page(report, [], [], MAKING)
    assert ODD not in text
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text
    assert text.count("<script>") == 1


def test_every_table_can_be_copied_and_scrolled_by_keys(report: Report) -> None:
    text = page(report, [], [], MAKING)
    assert text.count("<table") == len(re.findall(r'<div class="wide copied" tabindex="0"[^>]*><table', text)) > 5
    assert "<th></th>" not in text


def test_a_run_without_labels_has_a_page() -> None:
    text = page(report_of(questions=3, voters={"v": voter_report()}), [], [], MAKING)
    assert "<dt>Right</dt>" not in text
