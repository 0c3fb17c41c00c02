"""Learning: when weights are trained, when they are reused, and that none are asked what they learnt from."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.cli.console import Terminal
from codemmlu.cluster import session
from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.engine import lora
from codemmlu.engine.adapter_store import Manifest
from codemmlu.engine.lora import LEARNT
from codemmlu.engine.model_source import Model, cache_folder, validate
from codemmlu.errors import UserError
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.recipe import DirectVoter, FinetuneSettings, Recipe, load
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question
from codemmlu.training import adapter_training, ray_trainer
from codemmlu.training.adapter_training import check_no_train_overlap, ensure_adapter, find_start
from codemmlu.training.training_set import TrainingSet
from tests.support.finetunes import Finetune, published, solved_csv
from tests.support.questions import write_csv
from tests.support.rows import ASK, question

QUESTIONS = [question(f"t{n}", question=f"What does {n} print?") for n in range(4)]


@dataclass
class Trainer:
    """Stands for Ray Train: publishes weights at once, and keeps what it was given."""

    scratch: Path
    trained: list[tuple[TrainingSet, str | None]] = field(default_factory=list)
    merged: list[str] = field(default_factory=list)

    def train(self, terminal: Terminal, run: RunDir, job: ray_trainer.TrainJob, gpus: str | None = None) -> Manifest:
        """See ray_trainer.train."""
        self.trained.append((job.training_set, job.start))
        base = {"base": job.model.source, "base_fingerprint": job.model.fingerprint}
        published(Path(run.address), job.training_set.learnt, self.scratch, fingerprint=job.fingerprint, **base)
        return self.manifest(run)

    def manifest(self, run: RunDir) -> Manifest:
        """Read the manifest that was published."""
        return Manifest.model_validate_json(run.read("adapters/tuned/manifest.json"))

    def merge(self, run: RunDir, settings: FinetuneSettings, model: Model, trust_remote_code: bool) -> str:
        """See finetuning.merge."""
        self.merged.append(settings.name)
        run.write(f"merged/{settings.name}/config.json", b"{}")
        return "there"


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer(tmp_path / "scratch")
    monkeypatch.setattr(ray_trainer, "train", made.train)
    monkeypatch.setattr(ray_trainer, "merge", made.merge)
    monkeypatch.setattr(session, "join", lambda: None)
    return made


@pytest.fixture
def tuning(tmp_path: Path) -> Finetune:
    """A finetune of which nothing was run yet."""
    return Finetune(tmp_path / "tuning", examples=60, source="embedded")


def learn(tuning: Finetune, *overrides: str) -> Manifest:
    """Train what the recipe says."""
    recipe = load(str(tuning.recipe), [*overrides])
    assert recipe.finetune is not None
    return ensure_adapter(recipe, Terminal(), RunDir(recipe.out), QuestionSet(recipe))


def test_weights_that_stand_are_reused(tuning: Finetune, trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    first = learn(tuning)
    output = capsys.readouterr().out
    assert "on the tune part loss 1.500 -> 1.250, right 0.250 -> 0.500 (step 2 of 2)\n" in output
    assert learn(tuning, "finetune.checkpoint_steps=3") == first
    assert capsys.readouterr().out == "finetune: tuned stands and nothing changed: reused\n"
    assert len(trainer.trained) == 1


@pytest.mark.parametrize("changed", ["finetune.rank=4", "finetune.limit=20", "finetune.seed=1"])
def test_other_settings_are_trained_anew(tuning: Finetune, trainer: Trainer, changed: str) -> None:
    first = learn(tuning)
    assert learn(tuning, changed).fingerprint != first.fingerprint
    assert len(trainer.trained) == 2


def test_weights_are_merged_once_and_again_after_training(tuning: Finetune, trainer: Trainer) -> None:
    learn(tuning)
    assert trainer.merged == []
    learn(tuning, "finetune.merge=true")
    learn(tuning, "finetune.merge=true")
    assert (len(trainer.trained), trainer.merged) == (1, ["tuned"])
    learn(tuning, "finetune.merge=true", "finetune.rank=4")
    assert (len(trainer.trained), trainer.merged) == (2, ["tuned", "tuned"])


def test_what_the_starting_weights_learnt_counts_as_learnt(tuning: Finetune, trainer: Trainer, tmp_path: Path) -> None:
    model = validate("embedded", None, cache_folder())
    known: Any = {"base": "embedded", "base_fingerprint": model.fingerprint}
    start = published(tmp_path / "first", ["a", "b"], **known)
    learn(tuning, f"finetune.start={start}")
    ((training_set, place),) = trainer.trained
    assert place == str(start)
    assert training_set.learnt > {"a", "b"}
    learn(tuning)
    assert not trainer.trained[1][0].learnt & {"a", "b"}


def test_examples_that_are_asked_are_counted_and_left_out(
    tuning: Finetune, trainer: Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = solved_csv(tmp_path / "asked.csv", 5)
    learn(tuning, "questions.holdout=null", f"questions.source={asked}")
    assert "finetune: 5 examples are questions that are asked, and are not learnt from\n" in capsys.readouterr().out


def test_examples_are_shown_as_voters_see_them(
    tuning: Finetune, ray_cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of the run's examples is made, and the nearest ones of the train part are shown."""
    trainer = Trainer(tmp_path / "scratch")
    monkeypatch.setattr(ray_trainer, "train", trainer.train)
    learn(tuning, "examples.embedder.source=hashing", "finetune.examples=2")
    rows = trainer.trained[0][0].table.to_pylist()
    assert (tuning.out / "index" / "manifest.json").is_file()
    assert max(len(row["neighbours"]) for row in rows) == 2
    assert {rows[place]["part"] for row in rows for place in row["neighbours"]} <= {"train", "shown"}
    assert all(place != number for number, row in enumerate(rows) for place in row["neighbours"])


def test_a_scripted_engine_has_no_weights_to_train(tuning: Finetune, trainer: Trainer) -> None:
    with pytest.raises(UserError, match=r"finetune\.model: models\.m is a scripted engine, which has no weights"):
        learn(tuning, "models.m.source=scripted")
    assert trainer.trained == []


def recipe_of(tmp_path: Path, **fields: Any) -> Recipe:
    """Return a recipe that asks the first two questions."""
    rows = [{**asdict(one), "choices": list(one.choices)} for one in QUESTIONS[:2]]
    source = write_csv(tmp_path / "asked.csv", rows)
    known = {"out": "runs/x", "questions": {"source": str(source)}, "voters": {"v": {"model": "m"}}}
    known["models"] = {"m": {"source": "embedded"}}
    return Recipe.model_validate({**known, **fields})


def keys(questions: Sequence[Question]) -> list[str]:
    return [content_key(one) for one in questions]


def start_of(recipe: Recipe, start: Path | None, fingerprint: str = "weights") -> Any:
    """Find the weights to go on from."""
    settings = FinetuneSettings(model="m", start=str(start) if start else None)
    return find_start(settings, Model("m", None, fingerprint, None, {}), QuestionSet(recipe))


def test_training_starts_from_weights_of_the_same_model(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    assert start_of(recipe, None) is None
    start = published(tmp_path / "run", keys(QUESTIONS[2:]))
    assert start_of(recipe, start).path == str(start)
    with pytest.raises(UserError, match=r"^finetune\.start: .* was trained on another model than models\.m now is"):
        start_of(recipe, start, "other weights")


def test_training_does_not_start_from_weights_that_know_answers(tmp_path: Path) -> None:
    start = published(tmp_path / "run", keys(QUESTIONS[1:]))
    with pytest.raises(UserError, match=r"^finetune\.start: 1 of the questions are among those that "):
        start_of(recipe_of(tmp_path), start)


class Fitted(QuestionSet):
    """The questions of a recipe, with these examples to fit something on."""

    def __init__(self, recipe: Recipe, fit: Sequence[Question] = ()) -> None:
        super().__init__(recipe)
        self.__dict__["fit_examples"] = tuple(fit)


def test_a_voter_is_not_asked_what_its_weights_learnt_from(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    weights = published(tmp_path / "run", keys(QUESTIONS[1:3]))
    plain = ResolvedVoter("v", DirectVoter(model="m"), "m", ASK)
    tuned = replace(plain, adapter=lora.validate(str(weights), "voters.tuned.adapter"))
    check_no_train_overlap(recipe, {"plain": plain}, Fitted(recipe, QUESTIONS))
    with pytest.raises(UserError, match=r"^voters\.tuned\.adapter: 1 of the questions are among those that it was"):
        check_no_train_overlap(recipe, {"plain": plain, "tuned": tuned}, Fitted(recipe))
    others = recipe_of(tmp_path, questions={"source": str(solved_csv(tmp_path / "others.csv", 3))})
    check_no_train_overlap(others, {"tuned": tuned}, Fitted(others, QUESTIONS[3:]))
    with pytest.raises(UserError, match=r"^voters\.tuned\.adapter: 2 of the examples that are fitted on are among"):
        check_no_train_overlap(others, {"tuned": tuned}, Fitted(others, QUESTIONS))


def test_a_merged_model_is_not_asked_what_it_learnt_from(tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    merged.mkdir()
    (merged / LEARNT).write_text(json.dumps(keys(QUESTIONS[:1])))
    recipe = recipe_of(tmp_path, models={"m": {"source": str(merged)}})
    with pytest.raises(UserError, match=r"^models\.m\.source: 1 of the questions are among those that it was trained"):
        check_no_train_overlap(recipe, {"v": ResolvedVoter("v", DirectVoter(model="m"), "m", ASK)}, Fitted(recipe))


def test_quantised_weights_are_not_quantised_again() -> None:
    awq = Model("m", None, "f", None, {"quantization_config": {"quant_method": "awq", "bits": 4}})
    with pytest.raises(UserError, match=r"finetune\.quantization: models\.m is quantised already \(awq\), and nf4"):
        adapter_training._check_quantization(FinetuneSettings(model="m"), awq)
    adapter_training._check_quantization(FinetuneSettings(model="m", quantization="none"), awq)
    plain = Model("m", None, "f", None, {"quantization_config": {"quant_method": "bitsandbytes"}})
    adapter_training._check_quantization(FinetuneSettings(model="m"), plain)
