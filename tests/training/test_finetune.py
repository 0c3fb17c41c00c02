"""jobs/finetune.py with a tiny model: one real training on Ray Train, and what is refused before and after one."""

import json
from pathlib import Path

import pytest

from codemmlu.engine.lora import CONFIG, LEARNT
from tests.support.finetunes import Finetune
from tests.support.processes import Run


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory, ray_cluster: dict[str, str]) -> tuple[Finetune, Run]:
    """A finetune that has ended, and what it printed."""
    run = Finetune(tmp_path_factory.mktemp("finetune"))
    done = run.run()
    assert done.code == 0, done.err
    return run, done


@pytest.fixture
def tuned(training: tuple[Finetune, Run]) -> Finetune:
    """A finetune that has ended."""
    return training[0]


def test_the_loss_falls_and_the_weights_are_published(tuned: Finetune) -> None:
    manifest = tuned.manifest()
    losses = tuned.losses()
    assert sum(losses[-3:]) < 0.98 * sum(losses[:3])
    assert len(losses) == manifest["steps"] == -(-manifest["train_examples"] * 2 // 8)
    assert manifest["tune"][0]["step"] == 0, "what the model knew before is there"
    assert min(point["loss"] for point in manifest["tune"][1:]) < manifest["tune"][0]["loss"]
    weights = tuned.out / "adapters" / "tuned"
    assert json.loads((weights / CONFIG).read_text())["base_model_name_or_path"] == str(tuned.folder / "tiny")
    assert len(json.loads((weights / LEARNT).read_text())) > manifest["train_examples"], "the tune part counts too"
    assert not (tuned.out / "training").exists(), "checkpoints are cleared away"


def test_a_training_says_how_it_goes_and_what_comes_next(training: tuple[Finetune, Run]) -> None:
    tuned, done = training
    steps = tuned.manifest()["steps"]
    assert "1 worker on the CPU; peft: unsloth cannot run here: it needs an NVIDIA GPU" in done.out
    assert f"sequences in {steps} steps\n" in done.out
    assert f"finetune: step {steps} of {steps}, loss " in done.out
    assert done.out.count(" right on the tune part\n") == len(tuned.manifest()["tune"])
    assert done.out.splitlines()[-1] == f"To answer with it: python jobs/run.py {tuned.recipe}"


def test_the_same_command_trains_nothing_again(tuned: Finetune) -> None:
    before = tuned.manifest()
    again = tuned.run()
    assert again.code == 0, again.err
    assert "stands and nothing changed: reused" in again.out
    assert tuned.manifest() == before


def test_questions_that_were_learnt_from_are_not_asked(tuned: Finetune, tmp_path: Path) -> None:
    done = tuned.run("questions.holdout.seed=5", name="answer")
    assert done.code == 2, done.out
    assert "of the questions are among those that it was trained on; train it again without them" in done.err
    start = f"finetune.start={tuned.out / 'adapters' / 'tuned'}"
    done = tuned.run(start, "questions.holdout.seed=5", f"out={tmp_path / 'run'}")
    assert done.code == 2, done.out
    assert done.err.startswith("error: finetune.start: ")
    assert "of the questions are among those that" in done.err


def test_the_plan_says_what_would_be_trained(tuned: Finetune, tmp_path: Path) -> None:
    done = tuned.run("--dry-run", f"out={tmp_path / 'run'}")
    assert done.code == 0, done.err
    (line,) = [line for line in done.out.splitlines() if line.startswith("finetune tuned:")]
    assert f"sequences of {tuned.manifest()['train_examples']} examples" in line
    assert "one stands there" not in line
    assert "one stands there, and is checked when the run starts" in tuned.run("--dry-run").out


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Finetune:
    """A finetune of which nothing was run yet."""
    return Finetune(tmp_path_factory.mktemp("untrained"), examples=60, source="embedded")


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("finetune", ["finetune.start=/nowhere"], "finetune.start: /nowhere has no adapter_config.json; "),
        ("run", ["finetune.name=other"], "voters.tuned.adapter: tuned has no adapter_config.json; "),
        ("finetune", ["finetune=null", "voters={base: {model: m}}"], "finetune: the recipe has no such section; "),
        ("answer", [], "voters.tuned.adapter: tuned is not trained yet; jobs/finetune.py and jobs/run.py do that\n"),
        (
            "finetune",
            ["finetune.objective=preference", "finetune.pairs_from=/nowhere"],
            "finetune.pairs_from: /nowhere has no finished answers of a voter with method direct and model m; ",
        ),
        ("finetune", ["examples.limit=6"], "finetune: there is no example in the "),
    ],
)
def test_a_mistake_is_found_before_ray_starts(
    untrained: Finetune, name: str, overrides: list[str], says: str, tmp_path: Path
) -> None:
    assert_refused(untrained.run(*overrides, f"out={tmp_path / 'run'}", name=name), says)


def test_a_backend_that_cannot_run_is_refused(untrained: Finetune, ray_cluster: dict[str, str], tmp_path: Path) -> None:
    done = untrained.run("finetune.backend=unsloth", f"out={tmp_path / 'run'}")
    assert_refused(done, "finetune.backend: unsloth cannot run here: it needs an NVIDIA GPU; ")
    assert not list(tmp_path.glob("run/training/*")), "nothing was begun"


def assert_refused(done: Run, says: str) -> None:
    """Check that a job ended with exit code 2 and one line."""
    assert done.code == 2, done.out + done.err
    assert done.err.startswith(f"error: {says}")
    assert done.err.count("\n") == 1
