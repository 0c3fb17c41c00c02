"""Runs whose voters wait for one another: one start of the engine, and nothing asked in vain."""

from pathlib import Path

import pytest

from tests.support.questions import questions_csv
from tests.support.runs import ScriptedRun

CYCLIC = "voters.cyclic={model: m, readings: cyclic}"
EARLY = "voters.early={model: m, readings: cyclic, calibrate: prior, early_exit: margin, margin: 0.45}"
# Every fourth question is answered by what it asks, the others by a liking for A.
QUESTIONS = 20
SOLVED = {f"#q{i} ": f"that {i}" for i in range(0, QUESTIONS, 4)}


@pytest.fixture
def run(tmp_path: Path, ray_cluster: dict[str, str]) -> ScriptedRun:
    """A run of QUESTIONS questions of three choices."""
    return ScriptedRun(tmp_path, QUESTIONS, {"answers": SOLVED})


@pytest.fixture(scope="module")
def calibrated(ray_cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> ScriptedRun:
    """A finished run with each kind of calibration. No test changes it."""
    run = ScriptedRun(tmp_path_factory.mktemp("calibrated"), QUESTIONS, {"answers": SOLVED})
    done = run.run("voters.prior={model: m, calibrate: prior}", "voters.empty={model: m, calibrate: null-prompt}")
    assert done.code == 0, done.err
    assert done.out.count("starting 1 engine") == 1
    return run


def times(run: ScriptedRun, number: int) -> int:
    """How often a question reached the engine."""
    return run.times_asked()[f"#q{number} which is it?"]


def test_two_views_ask_once(calibrated: ScriptedRun) -> None:
    assert [times(calibrated, number) for number in range(QUESTIONS)] == [1] * QUESTIONS
    voters = calibrated.report()["voters"]
    assert voters["direct"]["ask"] == voters["prior"]["ask"]
    assert voters["direct"]["prior"] is None
    assert voters["prior"]["prior"]["3"][0] == pytest.approx(0.532, abs=0.001)  # shrunk, as the questions are few


def test_empty_questions_say_which_letter_is_liked(calibrated: ScriptedRun) -> None:
    assert calibrated.times_asked()["no content"] == 3
    voter = calibrated.report()["voters"]["empty"]
    assert voter["prior"]["3"] == pytest.approx([7 / 9, 1 / 9, 1 / 9])
    assert voter["letters_said"] == {"A": 15, "B": 5}, "of what is left even the first letter is said"
    assert sum(row["split"] == "null" for row in calibrated.answers()) == 3


def test_a_clear_question_is_read_once(run: ScriptedRun) -> None:
    """The pilot's reading is the voter direct's; every question is read first, and again where that is not clear."""
    done = run.run(EARLY)
    assert done.code == 0, done.err
    assert done.out.count("starting 1 engine") == 1
    assert [times(run, number) for number in range(8)] == [2, 4, 4, 4, 2, 4, 4, 4]
    early = run.report()["voters"]["early"]
    assert early["readings"] == QUESTIONS + 5 * 1 + 15 * 3, "its pilot is a part of its cost"
    assert early["letters_said"]["B"] == 5
    assert early["early_exit"] == {"readings": 50, "of": 60, "exited": 5}


def test_a_later_run_asks_what_is_new_and_what_failed(run: ScriptedRun) -> None:
    """Nothing else: what an early exit read with fewer questions stays as it was."""
    run.script = {"answers": SOLVED, "breaks": ["#q3 "]}
    assert run.run(EARLY, "questions.limit=12").code == 1, "what failed is said"
    before = {row["key"]: row["readings"] for row in run.answers() if row["status"] == "answered"}
    run.script = {"answers": SOLVED}
    done = run.run(EARLY)
    assert done.code == 0, done.err
    answered = [row for row in run.answers() if row["status"] == "answered"]
    after = {row["key"]: row["readings"] for row in answered}
    assert {key: after[key] for key in before} == before
    assert len(answered) == len(after) == 2 * QUESTIONS, "nothing was asked again"
    assert sorted(row["task_id"] for row in answered) == sorted([f"q{i}" for i in range(QUESTIONS)] * 2)
    assert run.run(EARLY).out.count("nothing left to ask") == 1


def test_a_cascade_asks_what_cheaper_voters_leave_unclear(run: ScriptedRun) -> None:
    second = "voters.second={model: m, template: reference, when: {margin_below: 0.5, of: [cyclic]}}"
    done = run.run(CYCLIC, second)
    assert done.code == 0, done.err
    assert done.out.count("starting 1 engine") == 1
    # the voter direct's, three in a circle and, where these cancel out, one more
    assert [times(run, number) for number in range(4)] == [4, 5, 5, 5]
    voter = run.report()["voters"]["second"]
    assert (voter["answered"], voter["skipped"], voter["failed"]) == (15, 5, 0)
    assert run.run(CYCLIC, second).out.count("nothing left to ask") == 1


def test_order_sensitivity_moves_the_right_choice(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """An engine that likes A is right where A is right."""
    run = ScriptedRun(tmp_path, 8)
    questions_csv(run.csv, 8, text="#q{i} what?", choices=("a {i}", "b", "c", "d"), answers="ABCD")
    done = run.run("report.order_sensitivity=[direct]")
    assert done.code == 0, done.err
    report = run.report()
    assert report["voters"]["direct"]["accuracy"] == 0.25
    measured = report["order_sensitivity"]["direct"]
    assert measured == {"asked": 8, "accuracy": {"A": 1, "B": 0, "C": 0, "D": 0}, "std": pytest.approx(0.433, abs=1e-3)}
    assert set(run.times_asked().values()) == {4}, "where the right choice stands already, nothing is asked again"
    assert "order sensitivity" in done.out


def test_a_threshold_is_fitted_on_examples_alone(run: ScriptedRun) -> None:
    """Checks say TRUE with 0.875 or 0.125. Examples are right where the first answer is refuted: half of these are."""
    examples = run.folder / "examples.csv"
    text = "#q1{i} one, number {i} of many?"
    questions_csv(examples, 120, prefix="e", text=text, choices=("bad", "good {i}", "x"), answers="B")
    run.script = {"answers": SOLVED, "refuted": ["bad"]}
    fitted = [
        "voters.direct={model: m, method: verify, threshold: fit}",
        f"examples.source={examples}",
        "vote.fit.limit=10",
    ]
    done = run.run(*fitted)
    assert done.code == 0, done.err
    assert done.out.count("starting 1 engine") == 1
    assert run.report()["voters"]["direct"]["threshold"] == 0.5, "of thresholds that do alike the nearest to a half"
    fit = [row for row in run.answers() if row["split"] == "fit"]
    assert len(fit) == 10
    assert all(len(row["turns"]) == 5 for row in fit), "they are asked to the end"
    assert {row["task_id"].partition("/")[0] for row in fit} == {"fit"}
    assert "fit/" not in "".join(run.submission())
    assert run.run(*fitted).out.count("nothing left to ask") == 1
