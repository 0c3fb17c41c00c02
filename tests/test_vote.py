"""The final reduce as jobs: voting again, submissions as voters, parts, hostile text, runs compared."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.runs import CountedRun, job

THREE = (
    "voters.cyclic={model: m, readings: cyclic}",
    "voters.other={model: m, template: reference}",
)


@pytest.fixture
def run(tmp_path: Path) -> CountedRun:
    """A run of a scripted engine that says A."""
    return CountedRun(tmp_path, 30, {})


def voted(run: CountedRun, *overrides: str) -> dict[str, Any]:
    """The report of voting again."""
    done = job("vote", str(run.recipe), *overrides)
    assert done.code in (0, 1), done.err
    return run.report()


def test_the_vote_asks_nobody(run: CountedRun) -> None:
    done = run.run(*THREE)
    assert done.code == 0, done.err
    asked, before = sum(run.times_asked().values()), run.report()
    again = voted(run, *THREE, "vote.rule=majority")
    assert sum(run.times_asked().values()) == asked
    assert (again["vote"]["rule"], before["vote"]["rule"]) == ("majority", "log_pool")
    assert {name: one["accuracy"] for name, one in again["voters"].items()} == {
        name: one["accuracy"] for name, one in before["voters"].items()
    }
    assert set(again["rules"]) == {
        "log_pool", "majority", "weighted", "borda", "instant_runoff", "dawid_skene", "cascade"
    }  # fmt: skip


def test_what_was_never_asked_is_missing_and_not_wrong(run: CountedRun) -> None:
    assert run.run("questions.limit=10").code == 0
    done = job("vote", str(run.recipe))
    assert "20 answers are missing and count as failed" in done.out
    assert "jobs/run.py" in done.out
    told = run.report()["voters"]["direct"]
    assert (told["answered"], told["failed"], told["accuracy"]) == (10, 20, 1.0)


def test_a_submission_is_a_voter_of_letters(run: CountedRun, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.csv"
    lines = [f"q{n},{'A' if n % 2 else 'B'}" for n in range(29)]
    theirs.write_text("task_id,answer\n" + "\n".join([*lines, "q29,None", "elsewhere,C"]) + "\n")
    done = run.run(f"voters.theirs={{method: submission, source: {theirs}}}")
    assert done.code == 0, done.err
    assert "theirs: 31 answers from" in done.out
    assert "30 of them to these questions" in done.out
    told = run.report()
    theirs_told = told["voters"]["theirs"]
    assert (theirs_told["answered"], theirs_told["abstained"], theirs_told["computed_tokens"]) == (29, 1, 0)
    assert theirs_told["accuracy"] == pytest.approx(14 / 30)
    assert told["agreement"]["direct"]["theirs"] == pytest.approx(14 / 29)


def test_weights_are_fitted_on_examples_and_never_on_what_is_asked(run: CountedRun, tmp_path: Path) -> None:
    solved = tmp_path / "solved.csv"
    lines = [f"e{n},#e{n} which?,\"['it {n}', 'not {n}', 'nor {n}']\",{'ABC'[n % 3]}" for n in range(240)]
    solved.write_text("task_id,question,choices,answer\n" + "\n".join(lines) + "\n")
    fit = (f"examples.source={solved}", "vote.fit.limit=40", *THREE)
    done = run.run(*fit)
    assert done.code == 0, done.err
    told = run.report()
    assert told["fitted"]["questions"] > 10
    assert set(told["rules"]) >= {"stacked"}
    weights = {name: one["weight"] for name, one in told["fitted"]["voters"].items()}
    assert sum(weights.values()) == pytest.approx(1)
    # The labels of what is asked have no part in it.
    run.source.write_text(run.source.read_text().replace(",A\n", ",B\n"))
    again = voted(run, *fit)
    assert again["voters"]["direct"]["accuracy"] != told["voters"]["direct"]["accuracy"]
    assert again["fitted"] == told["fitted"]
    assert json.loads((run.out / "fitted" / "vote.json").read_text())["fitted_on"] == told["fitted"]["questions"]


def test_with_one_voter_every_rule_gives_its_answer(run: CountedRun, tmp_path: Path) -> None:
    solved = tmp_path / "solved.csv"
    lines = [f"e{n},#e{n} which?,\"['it {n}', 'not {n}']\",{'AB'[n % 2]}" for n in range(60)]
    solved.write_text("task_id,question,choices,answer\n" + "\n".join(lines) + "\n")
    done = run.run(f"examples.source={solved}", "vote.fit.limit=20", "vote.rule=stacked")
    assert done.code == 0, done.err
    assert (run.report()["vote"]["rule"], run.report()["vote"]["accuracy"]) == ("stacked", 1.0)


def test_parts_reduced_by_ray_tell_what_one_process_tells(run: CountedRun, running_ray: None) -> None:
    prior = "voters.prior={model: m, readings: cyclic, calibrate: prior}"
    overrides = (*THREE, prior, "report.order_sensitivity=[direct]")
    run.source.write_text(
        run.source.read_text() + "four,#four?,\"['a', 'b', 'c', 'd']\",C\n" + "short,Only one?,['x'],A\n"
    )
    assert run.run(*overrides).code == 0
    whole, csv = run.report(), (run.out / "submission.csv").read_text()
    verdicts = pq.read_table(run.out / "verdicts.parquet").sort_by("position").to_pylist()
    parts = voted(run, *overrides, "vote.part=7")
    assert len(list((run.out / "voters.parquet").glob("*.parquet"))) > 2
    assert parts == whole
    assert (run.out / "submission.csv").read_text() == csv
    files = sorted((run.out / "verdicts.parquet").glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    assert sorted(rows, key=lambda row: int(row["position"])) == verdicts
    assert voted(run, *overrides) == whole
    assert (run.out / "voters.parquet").is_file()


def test_hostile_text_is_shown_as_text_and_cut(run: CountedRun) -> None:
    hostile = "</script><script>document.title = /planted/</script><!--"
    long = "x" * 1_000_000
    with run.source.open("a") as file:
        file.write(f"hostile,{hostile},\"['{hostile}', 'b']\",A\nlong,{long},\"['a', 'b']\",A\n")
    assert run.run().code in (0, 1)
    page = (run.out / "report.html").read_text()
    assert "planted" in page
    assert "<script>document" not in page
    assert page.count("</script>") == 2
    assert "(1,000,000 characters in all)" in page
    assert len(page) < 200_000


def test_runs_on_the_same_questions_are_compared(run: CountedRun, tmp_path: Path) -> None:
    assert run.run(*THREE).code == 0
    other = tmp_path / "other"
    assert run.run(f"out={other}", "voters.direct={model: m, template: reference}").code == 0
    done = job("report", str(run.out), str(other), "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["questions"], told["labelled"]) == (30, 30)
    assert [(pair["voter"], pair["first"], pair["second"]) for pair in told["comparisons"]] == [
        ("direct", "run", "other"),
        ("vote", "run", "other"),
    ]
    assert told["comparisons"][0]["same_letter"] == 1.0
    shown = job("report", str(run.out), str(other))
    assert "right to wrong" in shown.out
    assert job("report", str(run.out)).code == 0


def test_runs_on_other_questions_are_refused_in_one_line(run: CountedRun, tmp_path: Path) -> None:
    assert run.run().code == 0
    other = tmp_path / "other"
    assert run.run(f"out={other}", "questions.limit=20").code == 0
    done = job("report", str(run.out), str(other))
    assert done.code == 2
    assert "10 are missing, 0 are new and 0 read differently" in done.err
    assert len(done.err.splitlines()) == 1
    run.source.write_text(run.source.read_text().replace("'those']\",A", "'those']\",B", 1))
    assert run.run(f"out={tmp_path / 'labels'}").code == 0
    labels = job("report", str(run.out), str(tmp_path / "labels"))
    assert labels.code == 2
    assert "q0 has the answer B there and A in" in labels.err
    nowhere = job("report", str(run.out), str(tmp_path / "nowhere"))
    assert (nowhere.code, "no report.json there" in nowhere.err) == (2, True)
