"""Finished runs compared: paired differences, names kept apart, and other questions refused."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from codemmlu.cli import steps
from codemmlu.cli.console import Terminal
from codemmlu.errors import UserError
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, Verdict, Vote, to_table
from tests.support.rows import question, verdict, vote

STATUSES = {None: "abstained", "failed": "failed", "skipped": "skipped"}


def finished(
    folder: Path,
    voters: Mapping[str, Sequence[str | None]],
    *,
    verdicts: Sequence[str | None] | None = None,
    right: str | None = "A",
    text: str = "Which?",
    parts: int = 1,
    last_first: bool = False,
) -> str:
    """Write what a finished run leaves, and return its address.

    Args:
        folder: Where the run goes.
        voters: By name, what a voter says of each question: a letter, None, "failed" or "skipped".
        verdicts: Letters; those of the first voter where none are given.
        right: Label of all questions.
        text: Of all questions.
        parts: Files of votes and verdicts.
        last_first: Whether questions are stored in the other order.
    """
    first = next(iter(voters.values()))
    letters = verdicts if verdicts is not None else [None if said in STATUSES else said for said in first]
    asked = [question(f"t{i}", question=text, answer=right) for i in range(len(first))]
    votes = [
        vote(None if said in STATUSES else said, voter=name, task_id=one.task_id, status=STATUSES.get(said, "answered"))
        for name, column in voters.items()
        for one, said in zip(asked, column, strict=True)
    ]
    run = RunDir(str(folder))
    run.create()
    in_order = asked[::-1] if last_first else asked
    run.write_table("questions/000000.parquet", to_table(in_order[:1], Question))
    run.write_table("questions/000001.parquet", to_table(in_order[1:], Question))
    rows = [verdict(letter, one.task_id, i) for i, (one, letter) in enumerate(zip(asked, letters, strict=True))]
    for number in range(parts):
        place = "" if parts == 1 else f"/{number:06d}.parquet"
        run.write_table(f"voters.parquet{place}", to_table(votes[number::parts], Vote))
        run.write_table(f"verdicts.parquet{place}", to_table(rows[number::parts], Verdict))
    run.write("report.json", json.dumps({"voters": {name: {} for name in voters}}).encode())
    return run.address


def compared(*places: str) -> dict[str, Any]:
    """Return what comparing says of runs."""
    report: dict[str, Any] = steps.compare(Terminal(), [*places]).report
    return report


def pair_of(report: dict[str, Any], voter: str) -> dict[str, Any]:
    pairs: list[dict[str, Any]] = [pair for pair in report["comparisons"] if pair["voter"] == voter]
    assert len(pairs) == 1
    return pairs[0]


def test_two_runs_are_paired_question_by_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = finished(tmp_path / "one", {"v": ["A", "A", "A", "B", "B", "failed", "A", None]})
    two = finished(tmp_path / "two", {"v": ["A", "B", "B", "A", "B", "A", "skipped", "A"]}, last_first=True)
    report = compared(one, two)
    assert report["runs"] == {"one": one, "two": two}
    assert (report["questions"], report["labelled"]) == (8, 8)
    pair = pair_of(report, "v")
    assert (pair["first"], pair["second"]) == ("one", "two")
    # Neither what failed nor what was not asked is compared; an abstention is wrong.
    counts = ("asked", "both_right", "only_first", "only_second", "both_wrong")
    assert [pair[name] for name in counts] == [6, 1, 2, 2, 1]
    assert (pair["difference"], pair["p"]) == (0.0, 1.0)
    assert (pair["first_accuracy"], pair["second_accuracy"]) == (3 / 6, 3 / 6)
    assert pair["same_letter"] == 2 / 5  # of those that both gave a letter
    assert "right to wrong" in capsys.readouterr().out


def test_verdicts_are_compared_as_a_voter_of_their_own(tmp_path: Path) -> None:
    one = finished(tmp_path / "one", {"v": ["A", "A", "failed", None]}, verdicts=["A", "B", None, None])
    two = finished(tmp_path / "two", {"v": ["A", "A", "A", "A"]}, verdicts=["A", "A", "A", "A"])
    pair = pair_of(compared(one, two), "vote")
    # Where every voter failed there is no verdict to be wrong; where they abstained there is.
    assert (pair["asked"], pair["both_right"], pair["only_second"]) == (3, 1, 2)


def test_p_values_are_corrected_for_all_pairs_of_all_runs(tmp_path: Path) -> None:
    said = {"good": ["A"] * 10, "poor": ["B"] * 10, "same": ["B"] * 10}
    runs = [finished(tmp_path / name, {"v": letters, "w": letters}) for name, letters in said.items()]
    report = compared(*runs)
    assert [(pair["voter"], pair["first"], pair["second"]) for pair in report["comparisons"]] == [
        (voter, first, second)
        for first, second in (("good", "poor"), ("good", "same"), ("poor", "same"))
        for voter in ("v", "w", "vote")
    ]
    exact = 2 / 2**10
    assert [pair["p"] for pair in report["comparisons"]] == pytest.approx([exact] * 6 + [1.0] * 3)
    assert [pair["p_holm"] for pair in report["comparisons"]] == pytest.approx([exact * 9] * 6 + [1.0] * 3)


def test_only_voters_of_one_name_are_compared(tmp_path: Path) -> None:
    one = finished(tmp_path / "one", {"w": ["B", "A"], "mine": ["A", "A"], "v": ["A", "A"]})
    two = finished(tmp_path / "two", {"v": ["A", "B"], "theirs": ["A", "A"], "w": ["B", "B"]})
    report = compared(one, two)
    assert [pair["voter"] for pair in report["comparisons"]] == ["w", "v", "vote"]
    accuracies = {pair["voter"]: (pair["first_accuracy"], pair["second_accuracy"]) for pair in report["comparisons"]}
    assert accuracies == {"w": (1 / 2, 0.0), "v": (1.0, 1 / 2), "vote": (1 / 2, 1 / 2)}


def test_votes_in_parts_are_compared_as_in_one_file(tmp_path: Path) -> None:
    said: list[str | None] = ["A", "B", None, "A", "failed", "C"]
    other = finished(tmp_path / "other", {"v": said[::-1], "w": said})
    whole, parts = (finished(tmp_path / str(n) / "run", {"v": said, "w": said}, parts=n) for n in (1, 3))
    assert compared(whole, other)["comparisons"] == compared(parts, other)["comparisons"]


def test_without_labels_it_says_how_often_two_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = finished(tmp_path / "one", {"v": ["A", "B", None]}, right=None)
    two = finished(tmp_path / "two", {"v": ["A", "C", "A"]}, right=None)
    report = compared(one, two)
    pair = pair_of(report, "v")
    assert (report["labelled"], pair["same_letter"]) == (0, 1 / 2)
    assert (pair["first_accuracy"], pair["second_accuracy"], pair["difference"]) == (None, None, None)
    assert "No question has an answer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (("runs/a", "runs/b"), ["a", "b"]),
        (("x/run", "y/run"), ["x/run", "y/run"]),
        (("x/1/run", "y/1/run", "y/2/run"), ["x/1/run", "y/1/run", "y/2/run"]),
    ],
)
def test_runs_have_the_shortest_names_that_differ(tmp_path: Path, folders: tuple[str, ...], names: list[str]) -> None:
    runs = [finished(tmp_path / folder, {"v": ["A"]}) for folder in folders]
    assert list(compared(*runs)["runs"]) == names


def test_a_run_beside_itself_gets_a_number(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", {"v": ["A"]})
    assert list(compared(run, run)["runs"]) == [f"{run} (1)", f"{run} (2)"]


def test_other_questions_are_refused(tmp_path: Path) -> None:
    one = finished(tmp_path / "one", {"v": ["A"] * 4})
    fewer = finished(tmp_path / "fewer", {"v": ["A"] * 3})
    with pytest.raises(UserError, match="1 are missing, 0 are new and 0 read differently"):
        compared(one, fewer)
    with pytest.raises(UserError, match="0 are missing, 1 are new and 0 read differently"):
        compared(fewer, one)
    reworded = finished(tmp_path / "reworded", {"v": ["A"] * 4}, text="Which one?")
    with pytest.raises(UserError, match=f"{reworded}: .* 0 are missing, 0 are new and 4 read differently"):
        compared(one, one, reworded)


def test_other_labels_are_refused(tmp_path: Path) -> None:
    one = finished(tmp_path / "one", {"v": ["A"]})
    other = finished(tmp_path / "other", {"v": ["A"]}, right=None)
    with pytest.raises(UserError, match="t0 has the answer None there and A in"):
        compared(one, other)


@pytest.mark.parametrize("report", [None, b"{", b"[]", b"{}"])
def test_what_is_no_finished_run_is_refused(tmp_path: Path, report: bytes | None) -> None:
    run = RunDir(finished(tmp_path / "run", {"v": ["A"]}))
    run.clear("report.json")
    if report is not None:
        run.write("report.json", report)
    with pytest.raises(UserError, match=r"no report\.json there"):
        compared(run.address)
