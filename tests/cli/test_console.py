"""The terminal: nothing that comes from questions or models steers it, and numbers are shown as they are."""

import io
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from codemmlu.cli.console import Terminal
from codemmlu.cli.tables import order_lines, voters_table
from codemmlu.errors import safe
from codemmlu.report.results import OrderSensitivity
from codemmlu.report.schema import VoterReport
from codemmlu.report.statistics import wilson
from tests.support.reports import report_of, vote_report, voter_report

HOSTILE = {
    "\x1b[2J": r"\x1b[2J",
    "\x1b]0;title\x07": r"\x1b]0;title\x07",
    "\x9b31m": r"\x9b31m",
    "a\rb": r"a\rb",
    "a\nb": r"a\nb",
    "a\tb": r"a\tb",
    "\x08\x7f": r"\x08\x7f",
    "\u202egnp.exe": r"\u202egnp.exe",
    "\u2066x\u2069": r"\u2066x\u2069",
    "a\u200bb\ufeff": r"a\u200bb\ufeff",
    "\u2028\u2029\x85": r"\u2028\u2029\x85",
    "\udc80": r"\udc80",
    "\U000e0041": r"\U000e0041",
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_what_steers_a_terminal_is_written_out(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_other_text_stays() -> None:
    plain = "é 日本 🙂 [red]x[/red] a\u0301 \\n {x} \xa0"
    assert safe(plain) == plain


@given(st.text(st.characters()), st.integers(10, 60))
def test_nothing_that_steers_comes_through_and_lines_have_an_end(text: str, width: int) -> None:
    shown = safe(text, width)
    assert len(shown) <= width
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode()


def test_what_is_cut_says_so() -> None:
    assert safe("x" * 20, 10) == "xxxxxxx..."
    assert safe("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize("to_stderr", [False, True])
def test_a_line_is_one_line_without_markup(to_stderr: bool, capsys: pytest.CaptureFixture[str]) -> None:
    Terminal(to_stderr).say("[bold]a[/bold]\x1b[31m\n" + "long " * 60)
    out, err = capsys.readouterr()
    assert (err if to_stderr else out) == r"[bold]a[/bold]\x1b[31m\n" + "long " * 60 + "\n"
    assert (out if to_stderr else err) == ""


def numbers(**other: Any) -> VoterReport:
    """What report.json says of one voter."""
    known = {
        "accuracy": 0.25,
        "interval": wilson(25, 100),
        "answered": 1_200,
        "abstained": 34,
        "failed": 5,
        "prompt_tokens": 1_000_000,
        "generated_tokens": 234,
        "seconds": 100.0,
        "letters_said": {"A": 1_000, "D": 200},
    }
    return voter_report(**{**known, **other})


def shown(**fields: Any) -> list[str]:
    """The table's lines, as a file gets them."""
    out = io.StringIO()
    Console(file=out, width=160).print(voters_table(report_of(labelled=9, **fields)))
    return [" ".join(line.split()) for line in out.getvalue().splitlines()]


def test_the_table_of_one_voter_has_no_line_for_the_vote() -> None:
    head, line = shown(voters={"direct": numbers()})
    assert head == "voter accuracy 95 % interval answered abstained failed predicted letters tokens q/s"
    assert line == "direct 0.250 0.175 to 0.343 1,200 34 5 A 1000 D 200 1,000,234 12.4"


def test_without_labels_the_table_says_so() -> None:
    _, line = shown(voters={"direct": numbers(accuracy=None, interval=None, seconds=0.0)})
    assert line == "direct - no labels 1,200 34 5 A 1000 D 200 1,000,234 -"


def test_the_table_of_several_voters_shows_vote_and_guessing() -> None:
    vote = vote_report(accuracy=0.5, interval=(0.4, 0.6), answered=1_239, letters_said={"B": 1}, rank=1)
    voters = {"one": numbers(rank=1), "two": numbers(rank=2)}
    _, _, two, voted, guessing = shown(voters=voters, vote=vote, chance=0.25, letters_right={"A": 9})
    assert two.startswith("two 2 0.250 ")
    assert voted == "vote: log_pool 1 0.500 0.400 to 0.600 1,239 B 1"
    assert guessing == "(guessing) 0.250 right: A 9"


def test_a_letter_without_an_accuracy_is_not_in_the_line() -> None:
    measured = OrderSensitivity(asked=4, accuracy={"A": 0.5, "B": None}, std=0.0)
    (line,) = order_lines(report_of(order_sensitivity={"v": measured}))
    assert "with the right choice at A 0.500 (4 questions)" in line


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in its only item."""
    now = [100.0]
    monkeypatch.setattr("codemmlu.cli.console.time.monotonic", lambda: now[0])
    return now


def test_without_a_terminal_progress_is_a_line_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Terminal().progress("qwen", 1_000) as progress:
        for seconds, done, failed in [(60, 100, 0), (5, 50, 0), (5, 50, 2), (1, 50, 0), (9, 250, 1), (20, 500, 0)]:
            clock[0] += seconds
            progress.advance(done, failed)
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "qwen: the first 100 of 1,000 are in after 60 s",
        "qwen: 200 of 1,000, 10.0 questions/s, 80 s left, 2 failed",
        "qwen: 500 of 1,000, 20.0 questions/s, 25 s left, 3 failed",
        "qwen: 1,000 of 1,000, 22.5 questions/s, 3 failed",
    ]
    assert "\x1b" not in out
    assert "\r" not in out


def test_a_run_of_one_block_has_one_line(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Terminal().progress("qwen", 8) as progress:
        clock[0] += 3_725
        progress.advance(8, 0)
    assert capsys.readouterr().out == "qwen: the first 8 of 8 are in after 1 h 02 min\n"


def test_time_left_is_said_in_minutes_where_there_are_some(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Terminal().progress("qwen", 1_000) as progress:
        progress.advance(10, 0)
        clock[0] += 10
        progress.advance(10, 0)
    assert capsys.readouterr().out.splitlines()[-1] == "qwen: 20 of 1,000, 1.0 questions/s, 16 min 20 s left"


@pytest.mark.parametrize("width", [60, 80, 100, 160])
@pytest.mark.parametrize("voters", [1, 3])
def test_names_and_numbers_are_whole_in_every_width(
    width: int, voters: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console.Console.width", width)
    said = dict.fromkeys("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 1234)
    result: dict[str, Any] = {"accuracy": 0.25, "interval": (0.2, 0.3), "letters_said": said, "rank": 1}
    one = voter_report(answered=12_345, failed=7, seconds=20.0, prompt_tokens=9_876_543, **result)
    names = [f"cyclic[{n}]" for n in range(voters)]
    vote = vote_report(answered=12_345, **result)
    everyone = dict.fromkeys(names, one)
    report = report_of(voters=everyone, vote=vote, labelled=9, chance=0.25, letters_right=said)
    Terminal().show(voters_table(report))
    shown = capsys.readouterr().out
    assert all(len(line) <= width for line in shown.splitlines() if "no room" not in line)
    for name in names:
        (line,) = [line for line in shown.splitlines() if line.startswith(name)]
        assert "0.250  0.200 to 0.300" in line
    assert "\u2026" not in shown
    assert "12,345" in shown or "answered" in shown.splitlines()[-1]
    assert ("9,876,543" in shown) != ("tokens" in shown.splitlines()[-1])
