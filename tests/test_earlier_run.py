"""A run directory of an earlier version goes on: nothing that a digest is made of has changed.

tests/fixtures/earlier_run was written before the rooms of codemmlu/ were renamed (commit 159a968). It has every method,
a cascade, both letter priors, a fitted threshold and an index.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import QuestionSet
from codemmlu.engine.model_source import Model
from codemmlu.recipe import Recipe
from codemmlu.training.training_set import build_training_set, fingerprint
from tests.support.finetunes import solved_csv
from tests.support.runs import job

EARLIER = Path(__file__).parent / "fixtures" / "earlier_run"


def test_an_earlier_run_asks_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run_of_before"
    shutil.copytree(EARLIER, folder)
    monkeypatch.chdir(folder)
    before = json.loads((folder / "run" / "report.json").read_text())
    done = job("run", "recipe.yaml")
    assert done.code == 0, done.err
    assert "their index stands and nothing changed: reused" in done.out
    assert done.out.count("nothing left to ask, no engine is started") == 2, "of the model, and of the index"
    after = json.loads((folder / "run" / "report.json").read_text())
    assert after.keys() == before.keys()
    assert facts(after) == facts(before)


def facts(report: dict[str, Any]) -> dict[str, Any]:
    """Return what every voter and the vote came to, without floating-point noise."""
    names = ("ask", "answered", "abstained", "failed", "skipped", "letters_said", "threshold", "readings")
    voters = {name: {key: voter.get(key) for key in names} for name, voter in report["voters"].items()}
    return {"voters": voters, "vote": report["vote"]["letters_said"], "asks": sorted(report["asks"])}


def test_the_same_training_has_the_same_fingerprint(tmp_path: Path) -> None:
    """Adapters of an earlier version are reused."""
    source = str(solved_csv(tmp_path / "solved.csv", 60))
    recipe = Recipe.model_validate(
        {
            "out": "x",
            "questions": {"source": source, "holdout": {"n": 6}},
            "examples": {"source": source},
            "models": {"m": {"source": "embedded"}},
            "voters": {"v": {"model": "m"}},
            "finetune": {"model": "m", "synthesise": 3},
        }
    )
    assert recipe.finetune is not None
    training_set = build_training_set(recipe.finetune, recipe.seed, QuestionSet(recipe))
    assert training_set.fingerprint == "2195f387018ef6903acf039ec6c2698f"
    model = Model("m", None, "f", None, {})
    assert fingerprint(recipe.finetune, model, training_set, "") == "bc952b958c6f26d76a9d78081e5e4017"
