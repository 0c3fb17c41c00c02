"""jobs/finetune.py with a tiny model, as a process: what it publishes, what it reuses, and what it refuses."""

import json
import os
import shutil
from pathlib import Path

import pytest

from codemmlu.engine.adapters import CONFIG, LEARNT
from tests.support.runs import ROOT
from tests.support.finetunes import Finetune


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, running_ray: None) -> Finetune:
    """A finetune that has ended."""
    run = Finetune(tmp_path_factory.mktemp("finetune"))
    done = run.run()
    assert done.code == 0, done.err
    assert "peft: unsloth cannot run here: it needs an NVIDIA GPU" in done.out
    assert "on the tune part" in done.out
    assert done.out.splitlines()[-1].startswith("To answer with it: python jobs/run.py ")
    return run


def test_the_loss_falls_and_the_weights_are_published(tuned: Finetune) -> None:
    manifest = tuned.manifest()
    losses = tuned.losses()
    assert sum(losses[-3:]) < 0.98 * sum(losses[:3])
    assert len(losses) == manifest["steps"] == -(-manifest["train_examples"] * 2 // 8)
    assert manifest["tune"][0]["step"] == 0, "what the model knew before is there"
    assert min(point["loss"] for point in manifest["tune"][1:]) < manifest["tune"][0]["loss"]
    config = (tuned.out / "adapters" / "tuned" / "adapter_config.json").read_text()
    assert str(tuned.folder / "tiny") in config
    assert not (tuned.out / "training").exists(), "checkpoints are cleared away"


def test_the_same_command_trains_nothing_again(tuned: Finetune) -> None:
    before = tuned.manifest()
    again = tuned.run()
    assert again.code == 0, again.err
    assert "stands and nothing changed: reused" in again.out
    assert tuned.manifest() == before


def test_training_goes_on_from_other_weights(tuned: Finetune, tmp_path: Path) -> None:
    """A relative path: workers run elsewhere. Their shape stays, and so does what they know."""
    first = tmp_path / "first"
    shutil.copytree(tuned.out / "adapters" / "tuned", first)
    start = f"finetune.start={os.path.relpath(first, ROOT)}"
    fresh = json.loads((first / "manifest.json").read_text())
    few = ["finetune.epochs=1", "finetune.limit=16", "finetune.seed=5", f"out={tmp_path / 'run'}"]
    done = tuned.run(start, *few, "finetune.rank=4")
    assert done.code == 0, done.err
    second = tmp_path / "run" / "adapters" / "tuned"
    manifest = json.loads((second / "manifest.json").read_text())
    assert manifest["tune"][0]["loss"] == pytest.approx(min(point["loss"] for point in fresh["tune"][1:]), rel=0.05)
    assert manifest["settings"]["rank"] == fresh["settings"]["rank"] == json.loads((second / CONFIG).read_text())["r"]
    learnt = [set(json.loads((one / LEARNT).read_text())) for one in (first, second)]
    assert learnt[0] <= learnt[1]
    asked = tuned.run(start, *few, "questions.holdout.seed=5")
    assert asked.code == 2
    assert "finetune.start: " in asked.err
    assert "of the questions are among those that" in asked.err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("finetune.learning_rate=1e30", "finetune.learning_rate: with 1e+30 the loss on the tune part is nan"),
        ("finetune.backend=unsloth", "finetune.backend: unsloth cannot run here: it needs an NVIDIA GPU"),
        (
            "finetune.max_length=16",
            "finetune.max_length: every example of the train part is longer than 16 tokens",
        ),
        ("finetune.start=/nowhere", "finetune.start: /nowhere has no adapter_config.json"),
        ("finetune.name=other", "voters.tuned.adapter: tuned has no adapter_config.json"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(tuned: Finetune, override: str, says: str, tmp_path: Path) -> None:
    name = "run" if "name" in override else "finetune"
    done = tuned.run(override, f"out={tmp_path / 'run'}", name=name)
    assert done.code == 2, done.out + done.err
    assert says in done.err
    assert done.err.count("\n") == 1


def test_a_voter_of_weights_that_nobody_trained_is_told_how(tuned: Finetune, tmp_path: Path) -> None:
    done = tuned.run(f"out={tmp_path / 'run'}", name="answer")
    assert done.code == 2
    assert (
        done.err == "error: voters.tuned.adapter: tuned is not trained yet; jobs/finetune.py and jobs/run.py do that\n"
    )


def test_questions_that_were_learnt_from_are_not_asked(tuned: Finetune) -> None:
    done = tuned.run("questions.holdout.seed=5", name="answer")
    assert done.code == 2, done.out
    assert "of the questions are among those that it was trained on; train it again without them" in done.err


def test_the_plan_says_what_would_be_trained(tuned: Finetune, tmp_path: Path) -> None:
    done = tuned.run("--dry-run", f"out={tmp_path / 'run'}")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("finetune tuned:")]
    assert f"sequences of {tuned.manifest()['train_examples']} examples" in line


def test_preferences_are_learnt_from_what_a_run_answered(tuned: Finetune, tmp_path: Path) -> None:
    """With choices as they stand that is quickly learnt, and far from the random weights it starts from (beta)."""
    preference = tuned.preferred(tmp_path)
    done = tuned.run(*preference, f"out={tmp_path / 'run'}", "finetune.reorder=false", "finetune.beta=2")
    assert done.code == 0, done.err
    manifest = json.loads((tmp_path / "run" / "adapters" / "tuned" / "manifest.json").read_text())
    first, *rest = manifest["tune"]
    assert first["loss"] == pytest.approx(0.693, abs=0.001), "at first nothing is preferred: ln 2"
    assert min(point["loss"] for point in rest) < first["loss"]
    assert len(manifest["train"]) == manifest["steps"]


def test_a_run_without_answers_has_no_pairs(tuned: Finetune, tmp_path: Path) -> None:
    preference = [f"finetune.pairs_from={tmp_path}", "finetune.objective=preference"]
    done = tuned.run(*preference, f"out={tmp_path / 'run'}")
    assert (done.code, done.err) == (
        2,
        f"error: finetune.pairs_from: {tmp_path} has no finished answers of a voter with method direct and model m; "
        "run one on the examples first\n",
    )


def test_solved_examples_are_shown_while_training_too(tuned: Finetune, tmp_path: Path) -> None:
    done = tuned.run(
        f"out={tmp_path / 'run'}",
        "finetune.examples=2",
        "finetune.limit=24",
        "finetune.epochs=1",
        "finetune.synthesise=3",
    )
    assert done.code == 0, done.err
    assert "examples: an index of" in done.out
    manifest = json.loads((tmp_path / "run" / "adapters" / "tuned" / "manifest.json").read_text())
    assert manifest["train_examples"] == 24 + 3


def test_other_settings_train_anew_until_the_tune_part_has_had_enough(tuned: Finetune) -> None:
    """Nothing is learnt at such a rate: the first evaluation stays the best one, and two more are waited for."""
    before = tuned.manifest()
    done = tuned.run("finetune.learning_rate=1e-12", "finetune.epochs=8", "finetune.patience=2")
    assert done.code == 0, done.err
    manifest = tuned.manifest()
    assert manifest["fingerprint"] != before["fingerprint"]
    assert len(manifest["tune"]) == 1 + 3, "before anything is learnt, the best one, and two that are no better"
    assert manifest["best_step"] == manifest["tune"][1]["step"]
    assert manifest["steps"] == manifest["tune"][-1]["step"] < manifest["train_examples"] * 8 // 8
