"""Resolved voters: the spec of each, and the answers that a letter prior or a threshold is estimated from."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset import QuestionSet
from codemmlu.engine.lora import CONFIG, MANIFEST, WEIGHTS
from codemmlu.engine.model_source import Model
from codemmlu.errors import UserError
from codemmlu.inference.calibration import PILOT
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import NEVER, ResolvedVoter, resolve_voters, weights_digest, write_pilot
from codemmlu.recipe import ModelSettings, Recipe
from codemmlu.retrieval.index import RetrievalKey
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question
from tests.support.opens import watch_opens
from tests.support.rows import question

MODEL = Model("/models/m", None, "fingerprint", None, {})
QUESTIONS = [question(f"t{n}", question=f"question {n}") for n in range(100)]
FIT = tuple(question(f"fit/{n}", question=f"example {n}") for n in range(5))
VIEW = RetrievalKey("index", "index, fitted", tokens=2000, spare=True)
DIRECT = {"model": "m"}
PRIOR = {"model": "m", "calibrate": "prior"}
EARLY = {**PRIOR, "readings": "cyclic", "early_exit": "margin"}
FITTED = {"model": "m", "method": "verify", "threshold": "fit"}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """An empty run."""
    made = RunDir(str(tmp_path / "run"))
    made.create()
    return made


class Given(QuestionSet):
    """These questions, and these examples to fit something on."""

    def __init__(self, questions: Sequence[Question], fit: tuple[Question, ...]) -> None:
        self._given = questions
        self.__dict__["fit_examples"] = fit

    def __iter__(self) -> Iterator[Question]:
        return iter(self._given)


def voters(
    run: RunDir,
    questions: Sequence[Question] = QUESTIONS,
    fit: tuple[Question, ...] = FIT,
    model: Model = MODEL,
    more: dict[str, Any] | None = None,
    **voters: dict[str, Any],
) -> dict[str, ResolvedVoter]:
    """Resolve these voters. more: other sections of the recipe."""
    recipe = Recipe.model_validate(
        {
            "out": run.address,
            "models": {"m": {"source": "/models/m"}},
            "examples": {"source": "solved.csv"},
            "vote": {"fit": {"limit": 5}},
            **(more or {}),
            "voters": voters,
        }
    )
    return resolve_voters(recipe, {"m": model}, VIEW, run, Given(questions, fit))


def ask(run: RunDir, voter: dict[str, Any], **more: Any) -> InferenceSpec:
    """Return the ask of one voter."""
    return voters(run, **more, one=voter)["one"].spec


def test_a_prior_is_a_view_on_what_is_asked_anyway(run: RunDir) -> None:
    found = voters(run, plain=DIRECT, prior=PRIOR)
    assert found["prior"].spec == found["plain"].spec
    assert found["plain"].calibration is None
    calibration = found["prior"].calibration
    assert calibration
    assert (calibration.spec, calibration.questions, calibration.source) == (found["plain"].spec, (), "own")
    assert not found["prior"].waits


def test_empty_questions_have_the_sizes_of_those_asked(run: RunDir) -> None:
    mixed = [question("t1", choices=("a", "b")), question("t2"), question("t3")]
    one = voters(run, mixed, one={"model": "m", "calibrate": "null-prompt", "readings": "cyclic"})["one"]
    assert one.calibration
    assert (one.calibration.source, one.calibration.split) == ("null", "null")
    assert {len(empty.choices) for empty in one.calibration.questions} == {2, 4}
    assert one.calibration.spec.option("readings") == 1
    assert one.spec.option("readings") == "cyclic"


def test_an_early_exit_is_calibrated_by_one_reading_of_a_pilot(run: RunDir) -> None:
    found = voters(run, plain=DIRECT, early=EARLY)
    pilot = found["early"].calibration
    assert pilot
    assert (pilot.source, pilot.split) == ("pilot", "test")
    assert pilot.spec == found["plain"].spec, "so that it costs nothing where that is asked anyway"
    assert len(pilot.questions) == PILOT
    assert set(pilot.questions) < set(QUESTIONS)
    assert found["early"].spec != ask(run, {**PRIOR, "readings": "cyclic"})


def test_another_pilot_makes_another_ask(run: RunDir) -> None:
    """What an early exit reads depends on the prior; one that is written down stays when questions come."""
    first = voters(run, QUESTIONS[:80], early=EARLY)
    assert ask(run, EARLY, questions=QUESTIONS) != first["early"].spec
    write_pilot(run, first)
    assert ask(run, EARLY, questions=QUESTIONS) == first["early"].spec
    assert voters(run, early=EARLY)["early"].calibration == first["early"].calibration


def test_a_threshold_is_fitted_on_conversations_to_the_end(run: RunDir) -> None:
    one = voters(run, one=FITTED)["one"]
    assert one.waits
    assert one.calibration
    assert (one.calibration.questions, one.calibration.source) == (FIT, "fit")
    assert one.calibration.spec.option("threshold") == NEVER > 1
    assert ask(run, FITTED, fit=FIT[::-1]) == one.spec
    assert ask(run, FITTED, fit=FIT[:-1]) != one.spec, "other examples may fit another threshold"
    assert ask(run, {**FITTED, "threshold": 0.5}) != one.spec


def test_the_seed_is_part_of_what_is_drawn_alone(run: RunDir) -> None:
    for voter, drawn in (({"model": "m", "method": "sample"}, True), (DIRECT, False), (FITTED, False)):
        assert (ask(run, voter, more={"seed": 1}) != ask(run, voter, more={"seed": 2})) == drawn, voter


@pytest.mark.parametrize(
    ("voter", "decides"),
    [
        (DIRECT, False),
        (FITTED, False),
        ({"model": "m", "examples": 2}, True),
        ({"model": "m", "method": "reason"}, True),
        ({"model": "m", "method": "sample"}, True),
    ],
)
def test_length_counts_where_it_decides_what_is_read(run: RunDir, voter: dict[str, Any], decides: bool) -> None:
    """That is, how many examples are shown and how much is written."""
    asked = [ask(run, voter, more={"models": {"m": {"source": "x", "max_model_len": n}}}) for n in (1024, 4096)]
    assert (asked[0] != asked[1]) == decides
    assert asked[0].length == (1024 if decides else 0)


def test_an_ask_knows_its_model(run: RunDir) -> None:
    assert ask(run, DIRECT).weights == weights_digest(MODEL, ModelSettings(source="/models/m"))
    other = Model("/models/m", None, "other weights", None, {})
    assert ask(run, DIRECT, model=other) != ask(run, DIRECT)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({"dtype": "float32"}, True),
        ({"quantization": "awq"}, True),
        ({"experts_per_token": 1}, True),
        ({"engine": {"seed": 3}}, True),
        ({"engine": {"max_num_batched_tokens": 64}}, False),
        ({"max_num_seqs": 3, "replicas": 2, "tensor_parallel": 2}, False),
    ],
)
def test_settings_that_change_numbers_change_asks(run: RunDir, settings: dict[str, Any], changes: bool) -> None:
    other = ask(run, DIRECT, more={"models": {"m": {"source": "x", **settings}}})
    assert (other != ask(run, DIRECT)) == changes


def adapter(folder: Path, manifest: dict[str, Any] | None = None) -> str:
    """Write a LoRA adapter, with the manifest of one that was trained here."""
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 8}))
    (folder / WEIGHTS).write_bytes(b"weights")
    if manifest is not None:
        (folder / MANIFEST).write_text(json.dumps(manifest))
    return str(folder)


def test_an_adapter_is_part_of_the_ask(run: RunDir, tmp_path: Path) -> None:
    path = adapter(tmp_path / "lora")
    tuned = ask(run, {**DIRECT, "adapter": path})
    assert tuned.adapter == path
    assert tuned.weights != ask(run, DIRECT).weights


def test_an_adapter_of_another_model_is_refused(run: RunDir, tmp_path: Path) -> None:
    path = adapter(tmp_path / "lora", {"base_fingerprint": "another model's"})
    with pytest.raises(UserError, match=r"^voters\.one\.adapter: .*lora was trained on another model than models\.m"):
        ask(run, {**DIRECT, "adapter": path})
    assert ask(run, {**DIRECT, "adapter": adapter(tmp_path / "same", {"base_fingerprint": "fingerprint"})})


def test_an_adapter_of_several_voters_is_hashed_once(run: RunDir, tmp_path: Path) -> None:
    path = adapter(tmp_path / "lora", {"base_fingerprint": "fingerprint"})
    tuned = {**DIRECT, "adapter": path}
    with watch_opens() as opened:
        resolved = voters(run, one=tuned, two={**tuned, "template": "reference"}, three={**tuned, **PRIOR})
    assert [name for name in opened if name.endswith(WEIGHTS)] == [f"{path}/{WEIGHTS}"]
    assert resolved["one"].adapter == resolved["two"].adapter
    assert len({voter.spec.weights for voter in resolved.values()}) == 1


def test_an_adapter_that_is_not_trained_yet_is_said(run: RunDir) -> None:
    finetune = {"finetune": {"model": "m", "name": "tuned"}}
    with pytest.raises(UserError, match=r"voters\.one\.adapter: tuned is not trained yet; jobs/finetune\.py and"):
        ask(run, {**DIRECT, "adapter": "tuned"}, more=finetune)
