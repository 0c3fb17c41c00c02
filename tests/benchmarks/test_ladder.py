"""The ladder with a scripted engine: it goes on where it stopped, and its page is made of its figures."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ladder import RUNGS, Plan, Rung, climb, paired
from benchmarks.ladder_page import page
from codemmlu.recipe import load
from tests.support.questions import questions_csv
from tests.support.runs import job

ROOT = Path(__file__).parents[2]
SMALL = {
    "out": "x",
    "models": {"model": {"source": "scripted"}},
    "voters": {"reference": {"model": "model"}, "cyclic": {"model": "model", "readings": "cyclic"}},
}
TWO = (Rung("reference", "one reading", ("reference",)), Rung("both", "and several", ("reference", "cyclic")))


class Jobs:
    """Runs commands in this process, and counts them."""

    def __init__(self) -> None:
        self.commands: list[Sequence[str]] = []
        self.fails = False

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(command)
        if self.fails:
            return 1
        done = job(Path(command[1]).stem, *command[2:])
        assert done.code == 0, done.err
        return done.code


@pytest.fixture
def plan(tmp_path: Path, ray_cluster: dict[str, str]) -> Plan:
    """A ladder of two rungs on twelve questions."""
    recipe = tmp_path / "recipe.yaml"
    source = questions_csv(tmp_path / "questions.csv", 12)
    recipe.write_text(json.dumps({**SMALL, "questions": {"source": str(source)}}))
    return Plan(tmp_path / "ladder", str(recipe), (f"report.mix={source}",))


def test_a_ladder_goes_on_where_it_stopped(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = Jobs()
    first = climb(plan, TWO[:1], jobs)
    jobs.fails = True
    with pytest.raises(SystemExit, match="both: exit code 1; the same command goes on from here"):
        climb(plan, TWO, jobs)
    jobs.fails = False
    result = climb(plan, TWO, jobs)
    assert [command[-1] for command in jobs.commands] == [
        *("voters=[reference]", "voters=[reference,cyclic]", "voters=[reference,cyclic]")
    ], "what is finished is not run again"
    assert result["rungs"][0] == first["rungs"][0]
    err = capsys.readouterr().err
    assert all(command in err for rung in result["rungs"] for command in rung["commands"])
    other = climb(Plan(plan.folder, plan.recipe, (*plan.overrides, "questions.limit=8")), TWO, jobs)
    assert [rung["asked"] for rung in other["rungs"]] == [8, 8], "another command is another rung"


def test_a_rung_has_its_figures(plan: Plan) -> None:
    result = climb(plan, TWO, Jobs())
    assert json.loads((plan.folder / "ladder.json").read_text()) == result
    report = json.loads((plan.out / "report.json").read_text())
    last = result["rungs"][-1]
    assert last["accuracy"] == report["vote"]["accuracy"]
    assert last["readings"] == sum(cost["readings"] for cost in report["asks"].values())
    assert last["mix"]["accuracy"] == pytest.approx(last["accuracy"]), "its own mix"
    assert (result["rungs"][0]["p"], last["p"]) == (None, pytest.approx(1.0))
    assert last["operations"] is None, "a scripted engine has no parameters"
    shown = page(result)
    assert f"| and several | {last['accuracy']:.3f} (" in shown
    assert all(f"    {command}\n" in shown for rung in result["rungs"] for command in rung["commands"])


def test_rungs_are_compared_on_the_same_questions() -> None:
    before = {f"q{n}": n < 4 for n in range(20)}
    after = {f"q{n}": n < 12 for n in range(20)}
    assert paired(before, after) == pytest.approx(2 * 0.5**8)
    assert paired(before, before) == 1.0
    assert paired(before, {"other": True}) is None


def test_every_rung_is_of_the_recipe(tmp_path: Path) -> None:
    plan = Plan(tmp_path, str(ROOT / "recipes/ladder.yaml"), ())
    for rung in RUNGS:
        for _, job_file, recipe, *overrides in plan.commands(rung):
            loaded = load(recipe, overrides)
            is_training = job_file == "jobs/finetune.py"
            assert (loaded.finetune is not None) == is_training
            assert tuple(loaded.voters) == (("one",) if is_training else rung.voters)
    names = [name for rung in RUNGS for name, _ in rung.trains]
    assert set(names) == {"tuned", "agreeing", "second"}


def test_the_results_page_is_made_of_the_figures() -> None:
    figures, shown = ROOT / "benchmarks/results/ladder.json", ROOT / "docs/ladder.md"
    assert figures.exists() == shown.exists(), "python -m benchmarks.ladder_page makes one of the other"
    if figures.exists():
        result: dict[str, Any] = json.loads(figures.read_text())
        assert page(result) == shown.read_text()
