"""Voting again on what one finished run has asked: no model and no Ray. Only a reduce in parts needs Ray."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codemmlu.cluster import session
from codemmlu.engine.lora import WEIGHTS
from tests.support.finetunes import weights_in
from tests.support.opens import watch_opens
from tests.support.questions import append_csv, questions_csv
from tests.support.runs import ScriptedRun, job

THREE = (
    "voters.cyclic={model: m, readings: cyclic}",
    "voters.other={model: m, template: reference}",
)
EXAMPLES = 240


@pytest.fixture(scope="module")
def finished(ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> ScriptedRun:
    """A run with three voters, a fit split and moved choices, on two odd rows besides. Tests vote on copies of it."""
    run = ScriptedRun(tmp_path_factory.mktemp("finished"), 30)
    append_odd_rows(run)
    done = run.run(*THREE, *fit(run), "report.order_sensitivity=[direct]")
    assert done.code == 0, done.err
    return run


@pytest.fixture
def run(finished: ScriptedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedRun:
    """A copy of the finished run with the 30 usual questions, and no Ray. `times_asked` counts what the copy asks."""
    monkeypatch.setattr(session, "join", no_ray)
    return copied(finished, tmp_path)


def no_ray(*_: object) -> None:
    raise AssertionError("Ray was looked for")


def copied(finished: ScriptedRun, folder: Path) -> ScriptedRun:
    run = ScriptedRun(folder, finished.questions)
    shutil.copytree(finished.out, run.out)
    return run


def append_odd_rows(run: ScriptedRun) -> None:
    """Append a question of four choices and a row that is rejected."""
    append_csv(run.csv, ("four", "#four?", ["a", "b", "c", "d"], "C"), ("short", "Only one?", ["x"], "A"))


def fit(run: ScriptedRun) -> tuple[str, ...]:
    """Return the overrides that fit weights on at most 40 of 240 examples."""
    choices = ("it {i}", "not {i}", "nor {i}")
    solved = questions_csv(
        run.folder / "solved.csv", EXAMPLES, prefix="e", text="#e{i} which?", choices=choices, answers="ABC"
    )
    return (f"examples.source={solved}", "vote.fit.limit=40")


def voted(run: ScriptedRun, *overrides: str) -> dict[str, Any]:
    """Return the report of voting again."""
    done = run.run(*overrides, name="vote")
    assert done.code == 0, done.err
    return run.report()


def relabelled(run: ScriptedRun, letter: str, count: int = -1) -> None:
    """Replace the right answers A of the first `count` questions, or of all."""
    run.csv.write_text(run.csv.read_text().replace(",A\n", f",{letter}\n", count))


def test_the_vote_asks_no_model(run: ScriptedRun) -> None:
    before = voted(run, *THREE)
    again = voted(run, *THREE, "vote.rule=majority")
    assert not run.times_asked()
    assert (again["vote"]["rule"], before["vote"]["rule"]) == ("majority", "log_pool")
    assert again["voters"] == before["voters"]
    assert set(again["rules"]) == {
        "log_pool", "majority", "weighted", "borda", "instant_runoff", "dawid_skene", "cascade"
    }  # fmt: skip


def test_what_was_never_asked_is_missing_and_not_wrong(run: ScriptedRun) -> None:
    append_csv(run.csv, *((f"new{i}", f"#new{i}?", ["a", "b"], "A") for i in range(20)))
    done = run.run(name="vote")
    assert done.code == 0, done.err
    assert "20 answers are missing and count as failed" in done.out
    assert "To ask: python jobs/run.py" in done.out
    voter = run.report()["voters"]["direct"]
    assert (voter["answered"], voter["failed"], voter["accuracy"]) == (30, 20, 1.0)


def test_a_submission_is_a_voter_of_letters(run: ScriptedRun, tmp_path: Path) -> None:
    source = tmp_path / "submission.csv"
    letters = {f"q{i}": "A" if i % 2 else "B" for i in range(29)} | {"q29": "None", "elsewhere": "C"}
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([("task_id", "answer"), *letters.items()])
    done = run.run(f"voters.theirs={{method: submission, source: {source}}}", name="vote")
    assert done.code == 0, done.err
    assert "theirs: 31 answers from" in done.out
    assert "30 of them to these questions" in done.out
    report = run.report()
    theirs = report["voters"]["theirs"]
    assert (theirs["answered"], theirs["abstained"], theirs["computed_tokens"]) == (29, 1, 0)
    assert theirs["accuracy"] == pytest.approx(14 / 30)
    assert report["agreement"]["direct"]["theirs"] == pytest.approx(14 / 29)


def test_weights_are_fitted_on_examples_alone(run: ScriptedRun) -> None:
    overrides = (*fit(run), *THREE)
    before = voted(run, *overrides)
    count = before["fitted"]["questions"]
    assert 10 < count <= 40
    assert set(before["rules"]) >= {"stacked"}
    weights = {name: voter["weight"] for name, voter in before["fitted"]["voters"].items()}
    assert sum(weights.values()) == pytest.approx(1)
    relabelled(run, "B")  # the labels of what is asked have no part in it
    again = voted(run, *overrides)
    assert (before["voters"]["direct"]["accuracy"], again["voters"]["direct"]["accuracy"]) == (1.0, 0.0)
    assert again["fitted"] == before["fitted"]
    assert json.loads((run.out / "fitted" / "vote.json").read_text())["fitted_on"] == count


def test_with_one_voter_every_rule_gives_its_answer(run: ScriptedRun) -> None:
    report = voted(run, *fit(run), "vote.rule=stacked")
    assert (report["vote"]["rule"], report["vote"]["accuracy"]) == ("stacked", 1.0)


def test_a_reduce_in_parts_tells_the_same(finished: ScriptedRun, tmp_path: Path) -> None:
    prior = "voters.prior={model: m, readings: cyclic, calibrate: prior}"
    overrides = (*THREE, prior, "report.order_sensitivity=[direct]")
    run = copied(finished, tmp_path)
    append_odd_rows(run)
    whole = voted(run, *overrides)
    submission, verdicts = run.submission(), pq.read_table(run.out / "verdicts.parquet")
    assert voted(run, *overrides, "vote.part=16") == whole
    assert len(list((run.out / "voters.parquet").glob("*.parquet"))) == 2
    assert run.submission() == submission
    parts = pq.ParquetDataset(run.out / "verdicts.parquet").read()
    assert parts.sort_by("position") == verdicts.sort_by("position")
    assert voted(run, *overrides) == whole
    assert (run.out / "voters.parquet").is_file()


def test_hostile_text_is_shown_as_text_and_cut(run: ScriptedRun) -> None:
    hostile = "</script><script>document.title = /planted/</script><!--"
    append_csv(run.csv, ("hostile", hostile, [hostile, "b"], "A"), ("long", "x" * 1_000_000, ["a", "b"], "A"))
    voted(run)
    page = (run.out / "report.html").read_text()
    assert "planted" in page
    assert 'aria-label="Reliability"' in page
    assert "<script>document" not in page
    assert page.count("</script>") == 2
    assert "(1,000,000 characters in all)" in page
    assert len(page) < 200_000


def test_runs_on_the_same_questions_are_compared(run: ScriptedRun, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run.out, other)
    voted(run, *THREE)
    assert run.run(f"out={other}", "voters.direct={model: m, template: reference}", name="vote").code == 0
    done = job("report", str(run.out), str(other), "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert (report["questions"], report["labelled"]) == (30, 30)
    assert [(pair["voter"], pair["first"], pair["second"]) for pair in report["comparisons"]] == [
        ("direct", "run", "other"),
        ("vote", "run", "other"),
    ]
    assert report["comparisons"][0]["same_letter"] == 1.0
    shown = job("report", str(run.out), str(other))
    assert "right to wrong" in shown.out
    alone = job("report", str(run.out))
    assert (alone.code, "cyclic" in alone.out) == (0, True)


def test_runs_on_other_questions_are_not_compared(run: ScriptedRun, tmp_path: Path) -> None:
    voted(run)
    other, labels = tmp_path / "other", tmp_path / "labels"
    for folder in (other, labels):
        shutil.copytree(run.out, folder)
    assert run.run(f"out={other}", "questions.limit=20", name="vote").code == 0
    done = job("report", str(run.out), str(other))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "10 are missing, 0 are new and 0 read differently" in done.err
    relabelled(run, "B", 1)
    assert run.run(f"out={labels}", name="vote").code == 0
    done = job("report", str(run.out), str(labels))
    assert done.code == 2
    assert "q0 has the answer B there and A in" in done.err
    nowhere = job("report", str(run.out), str(tmp_path / "nowhere"))
    assert (nowhere.code, "no report.json there" in nowhere.err) == (2, True)


def test_a_run_opens_the_weights_of_an_adapter_once(tmp_path: Path) -> None:
    run = ScriptedRun(tmp_path, 5)
    weights = weights_in(tmp_path / "lora") / WEIGHTS
    tuned = f"{{model: m, adapter: {weights.parent}, readings: "
    with watch_opens() as opened:
        done = run.run(f"voters.one={tuned}1}}", f"voters.two={tuned}cyclic, calibrate: prior}}", name="vote")
    assert done.code == 0, done.err
    assert [name for name in opened if name.endswith(weights.name)] == [str(weights)]
    fingerprints = {name: voter["adapter"] for name, voter in run.report()["voters"].items()}
    assert fingerprints["direct"] is None
    assert fingerprints["one"] == fingerprints["two"] is not None
