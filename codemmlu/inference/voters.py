"""Seats: every voter of a recipe with the ask behind it, and with what its letter prior is estimated from."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from codemmlu.engine import lora, model_source
from codemmlu.engine.adapter_store import folder_of, read_manifest
from codemmlu.engine.lora import Adapter
from codemmlu.engine.placement.placement import answer_settings
from codemmlu.errors import UserError
from codemmlu.inference.calibration import _PILOT, Calibration, _pilot, identity, null_questions
from codemmlu.inference.spec import InferenceSpec, build_spec
from codemmlu.recipe import (
    AskedVoter,
    DirectVoter,
    ModelSettings,
    ReasonVoter,
    Recipe,
    RetrieveVoter,
    SampleVoter,
    VerifyVoter,
    digest,
)
from codemmlu.retrieval.index import RetrievalKey
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question


@dataclass(frozen=True)
class ResolvedVoter:
    """A voter with what stands behind it."""

    name: str
    settings: AskedVoter
    pool: str
    ask: InferenceSpec
    calibration: Calibration | None = None

    @property
    def exits_early(self) -> bool:
        """Whether its ask has to know the prior before it asks."""
        return isinstance(self.settings, DirectVoter) and self.settings.early_exit == "margin"

    @property
    def fits_threshold(self) -> bool:
        """Whether its ask has to know a threshold before it asks."""
        return isinstance(self.settings, VerifyVoter) and self.settings.threshold == "fit"

    @property
    def waits(self) -> bool:
        """Whether its ask has to know what its calibration tells before it asks."""
        return self.exits_early or self.fits_threshold


@dataclass(frozen=True)
class Ensemble:
    """All voters of a run.

    seats: those that are asked; submissions: the letters by task_id of those that are not, None for no answer
    fit: examples that voters are asked to be weighed by, and the fit split that thresholds are fitted on
    most_choices: the most of any question; swapped: voters that are asked with the right choice moved, too
    """

    voters: Mapping[str, ResolvedVoter]
    submissions: Mapping[str, Mapping[str, str | None]]
    fit: tuple[Question, ...]
    most_choices: int
    swapped: tuple[str, ...] = ()

    @property
    def fit_questions(self) -> tuple[Question, ...]:
        """The examples that every voter is asked: none where one voter alone has nobody to be weighed against."""
        return self.fit if len(self.voters) + len(self.submissions) > 1 else ()


# A threshold that no check reaches: a conversation goes on until one choice is left.
NEVER = 2.0


def resolve_voters(
    recipe: Recipe,
    models: dict[str, model_source.Model],
    retrieval_key: RetrievalKey | None,
    run: RunDir,
    questions: Callable[[], Iterator[Question]],
    fit: tuple[Question, ...],
) -> dict[str, ResolvedVoter]:
    """The voters, each with its ask.

    view: on the examples, for voters that look at some; fit: the examples that something is fitted on
    """
    weights = {name: weights_digest(model, recipe.models[name]) for name, model in models.items()}
    needs = [voter for voter in recipe.asked.values() if isinstance(voter, DirectVoter)]
    pilot = _pilot(run, questions()) if any(voter.early_exit == "margin" for voter in needs) else ()
    empty = any(voter.calibrate == "null-prompt" for voter in needs)
    sizes = {len(question.choices) for question in questions()} if empty else set()
    null = null_questions(sizes)
    found = {}
    for name, voter in recipe.asked.items():
        adapter = adapter_of(recipe, name, voter, models)
        length = recipe.models[voter.pool].max_model_len if voter.pool in recipe.models else None
        asks = partial(build_run_spec, weights.get(voter.pool, ""), retrieval_key, adapter, recipe.seed, length)
        found[name] = resolve_voter(name, voter, asks, pilot, null, fit)
    return found


def adapter_of(
    recipe: Recipe, name: str, voter: AskedVoter, models: Mapping[str, model_source.Model]
) -> Adapter | None:
    """The adapter that a voter answers with, proved to be there and to be one of its model. Raises UserError."""
    if isinstance(voter, RetrieveVoter) or voter.adapter is None:
        return None
    key = f"voters.{name}.adapter"
    run, trained = RunDir(recipe.out), recipe.finetune is not None and voter.adapter == recipe.finetune.name
    if trained and read_manifest(run, voter.adapter) is None:
        raise UserError(f"{key}: {voter.adapter} is not trained yet; jobs/finetune.py and jobs/run.py do that")
    place = run.below(folder_of(voter.adapter)).address if trained else voter.adapter
    return inspect_adapter(place, key, voter.model, models.get(voter.model))


def inspect_adapter(place: str, key: str, name: str, model: model_source.Model | None) -> Adapter:
    """An adapter, proved to be there and to be one of the recipe's model `name`. Raises UserError that names `key`."""
    adapter = lora.validate(place, key)
    base = lora.base_of(adapter)
    if base and model and base != model.fingerprint:
        raise UserError(f"{key}: {place} was trained on another model than models.{name} now is")
    return adapter


def build_run_spec(
    weights: str,
    retrieval_key: RetrievalKey | None,
    adapter: Adapter | None,
    seed: int,
    length: int | None,
    voter: AskedVoter,
    pilot: str = "",
) -> InferenceSpec:
    """The ask of a voter of a run. weights: the model's digest; length: its max_model_len, if the recipe says one."""
    ask = build_spec(voter, weights, retrieval_key, adapter, pilot)
    if length and (ask.examples or isinstance(voter, ReasonVoter | SampleVoter)):
        # How many examples, and how much of what a model writes, there is room for.
        ask = replace(ask, length=length)
    # What is drawn by chance depends on the run's seed.
    return replace(ask, settings=(*ask.settings, ("seed", seed))) if isinstance(voter, SampleVoter) else ask


def resolve_voter(
    name: str,
    voter: AskedVoter,
    asks: Callable[..., InferenceSpec],
    pilot: tuple[Question, ...],
    null: tuple[Question, ...],
    fit: tuple[Question, ...],
) -> ResolvedVoter:
    """A voter with its ask, and with what is estimated for it: from a pilot, empty questions, examples, or its own.

    asks: the ask of a voter of this model and adapter, and of a pilot's digest where it needs one
    """
    if isinstance(voter, VerifyVoter) and voter.threshold == "fit":
        to_the_end = asks(voter.model_copy(update={"threshold": NEVER}))
        known = digest(*sorted(to_the_end.key(question) for question in fit))
        return ResolvedVoter(name, voter, voter.pool, asks(voter, known), Calibration(to_the_end, fit, "fit"))
    if not isinstance(voter, DirectVoter) or voter.calibrate == "none":
        return ResolvedVoter(name, voter, voter.pool, asks(voter))
    one = asks(voter.model_copy(update={"readings": 1, "early_exit": "none"}))
    empty = voter.calibrate == "null-prompt"
    calibration = Calibration(one, null, "null") if empty else Calibration(one, pilot)
    if voter.early_exit == "margin":
        known = digest(*sorted(one.key(question) for question in calibration.questions or ()))
        return ResolvedVoter(name, voter, voter.pool, asks(voter, known), calibration)
    return ResolvedVoter(name, voter, voter.pool, asks(voter), calibration if empty else Calibration(asks(voter)))


def write_pilot(run: RunDir, voters: Mapping[str, ResolvedVoter]) -> None:
    """Writes the pilot's questions down, so that raising the limit leaves them as they are."""
    for voter in voters.values():
        if voter.exits_early and voter.calibration and voter.calibration.split == "test":
            pilot = voter.calibration.questions or ()
            run.write(_PILOT, json.dumps([identity(question) for question in pilot]).encode())


def weights_digest(model: model_source.Model, settings: ModelSettings) -> str:
    """What an ask knows of its model: the files, and the settings that change its numbers."""
    return digest(model.fingerprint, answer_settings(settings))
