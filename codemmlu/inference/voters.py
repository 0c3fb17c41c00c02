"""Resolved voters: every voter of a recipe with its inference spec and its calibration."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codemmlu.dataset import QuestionSet
from codemmlu.dataset.dedup import content_key
from codemmlu.dataset.examples import FIT
from codemmlu.dataset.kind import KindRules
from codemmlu.engine import lora, model_source
from codemmlu.engine.lora import Adapter
from codemmlu.engine.placement.placement import answer_settings
from codemmlu.engine.template_files import changed_prompts
from codemmlu.inference.adapters import find_adapters
from codemmlu.inference.calibration import PILOT_FILE, Calibration, identity, null_questions, stored_pilot
from codemmlu.inference.methods import METHODS
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.tools import evidence_spec
from codemmlu.mcq import wording_digest
from codemmlu.recipe import (
    AskedVoter,
    DirectVoter,
    EvidenceVoter,
    ModelSettings,
    ModelVoter,
    ProbeVoter,
    Recipe,
    RetrieveVoter,
    VerifyVoter,
    digest,
    exits_early,
    method_settings,
    model_name,
)
from codemmlu.retrieval.index import RetrievalKey
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question


@dataclass(frozen=True)
class ResolvedVoter:
    """A voter with its inference spec, and with the answers that its calibration is estimated from.

    Attributes:
        name: The name of the voter.
        settings: The settings of the voter.
        pool: The pool that answers.
        spec: The inference spec.
        calibration: The answers that a letter prior or a threshold is estimated from; None without an estimate.
        adapter: The adapter that the voter answers with.
    """

    name: str
    settings: AskedVoter
    pool: str
    spec: InferenceSpec
    calibration: Calibration | None = None
    adapter: Adapter | None = None

    @property
    def exits_early(self) -> bool:
        """Tell whether inference needs the letter prior."""
        return exits_early(self.settings)

    @property
    def fits_threshold(self) -> bool:
        """Tell whether inference needs a fitted threshold."""
        return isinstance(self.settings, VerifyVoter) and self.settings.threshold == "fit"

    @property
    def waits(self) -> bool:
        """Tell whether inference needs the result of the calibration."""
        return self.exits_early or self.fits_threshold


@dataclass(frozen=True)
class Ensemble:
    """All voters of a run.

    Attributes:
        voters: The voters that need inference, by name.
        submissions: The letters of all other voters by task_id, None for no answer.
        fit: Examples that weights are fitted on, and the fit split that thresholds are fitted on.
        most_choices: The most choices of any question.
        swapped: Names of the voters that also answer with the right choice moved.
        kinds: The rules that name the kind of a question.
    """

    voters: Mapping[str, ResolvedVoter]
    submissions: Mapping[str, Mapping[str, str | None]]
    fit: tuple[Question, ...]
    most_choices: int
    swapped: tuple[str, ...] = ()
    kinds: KindRules = field(default_factory=KindRules)

    @property
    def fit_questions(self) -> tuple[Question, ...]:
        """Return the examples that every voter answers: none for a single voter, which is not weighed."""
        return self.fit if len(self.voters) + len(self.submissions) > 1 else ()


# A threshold that no check reaches: a conversation goes on until one choice is left.
NEVER = 2.0


@dataclass(frozen=True)
class _CalibrationQuestions:
    """The questions that calibrations use: a pilot, content-free questions, and the fit split."""

    pilot: tuple[Question, ...]
    null: tuple[Question, ...]
    fit: tuple[Question, ...]
    learning: tuple[Question, ...] = ()


def resolve_voters(
    recipe: Recipe,
    models: Mapping[str, model_source.Model],
    retrieval_key: RetrievalKey | None,
    run: RunDir,
    questions: QuestionSet,
) -> dict[str, ResolvedVoter]:
    """Resolve the voters of a recipe.

    Args:
        recipe: The recipe.
        models: The models of the recipe, by name.
        retrieval_key: How specs look at solved examples; required where a voter does.
        run: The run directory, which may hold the pilot of an earlier attempt.
        questions: The questions of the run, and the examples for fitting.

    Returns:
        The resolved voters, by name.
    """
    weights = {name: weights_digest(model, recipe.models[name]) for name, model in models.items()}
    direct = [voter for voter in recipe.asked.values() if isinstance(voter, DirectVoter)]
    pilot = stored_pilot(run, iter(questions)) if any(map(exits_early, direct)) else ()
    empty = any(voter.calibrate == "null-prompt" for voter in direct)
    null = null_questions({len(question.choices) for question in questions} if empty else set())
    evidence = any(isinstance(voter, EvidenceVoter | ProbeVoter) for voter in recipe.asked.values())
    learning = learning_examples(questions, recipe.seed) if evidence else ()
    known = _CalibrationQuestions(pilot, null, questions.fit_examples, learning)
    adapters = find_adapters(recipe, models)
    resolved = {}
    for name, voter in recipe.asked.items():
        adapter = adapters.get(name)
        length = recipe.models[voter.pool].max_model_len if voter.pool in recipe.models else None
        builder = SpecBuilder(weights.get(model_name(voter) or "", ""), retrieval_key, adapter, recipe.seed, length)
        resolved[name] = replace(_resolve_voter(name, voter, builder, known), adapter=adapter)
    return resolved


@dataclass(frozen=True)
class SpecBuilder:
    """Builds the inference specs of one model and adapter.

    Attributes:
        weights: The digest of the model; empty without one.
        retrieval_key: How specs look at solved examples; required for a voter that does.
        adapter: The adapter that answers.
        seed: The seed of the run.
        length: The model's max_model_len, if the recipe sets it.
    """

    weights: str
    retrieval_key: RetrievalKey | None = None
    adapter: Adapter | None = None
    seed: int = 0
    length: int | None = None

    def build(self, voter: AskedVoter, pilot: str = "") -> InferenceSpec:
        """Return the inference spec of a voter.

        Args:
            voter: The voter's settings.
            pilot: A digest of the calibration, for a voter that needs its result during inference.

        Returns:
            The spec.
        """
        key, adapter = self.retrieval_key, self.adapter
        if isinstance(voter, RetrieveVoter):
            assert key is not None
            return InferenceSpec(voter.pool, "", voter.method, neighbours=voter.neighbours, index=key.fitted)
        if isinstance(voter, EvidenceVoter):
            return evidence_spec(voter)
        if isinstance(voter, ProbeVoter):
            return self._states(voter)
        method = METHODS[voter.method]
        settings = tuple(sorted((method_settings(voter) | ({"pilot": pilot} if pilot else {})).items()))
        spec = InferenceSpec(
            pool=voter.pool,
            weights=digest(self.weights, adapter.fingerprint) if adapter else self.weights,
            method=voter.method,
            template=voter.template,
            # Random samples depend on the run's seed.
            settings=(*settings, ("seed", self.seed)) if method.draws else settings,
            adapter=adapter.path if adapter else "",
            # The length decides how many examples there is room for, and how much of what a model writes.
            length=self.length if self.length and (voter.examples or method.writes) else 0,
            wording=wording_digest(method.wording),
            early_exit=exits_early(voter),
        )
        return spec if not voter.examples else _with_examples(spec, voter, key)

    def _states(self, voter: ProbeVoter) -> InferenceSpec:
        """Return the spec of a voter that reads hidden states."""
        return InferenceSpec(
            pool=voter.pool,
            weights=digest(self.weights, self.adapter.fingerprint) if self.adapter else self.weights,
            method=voter.method,
            template=voter.template,
            settings=(("dimensions", voter.dimensions), ("layer", voter.layer)),
            adapter=self.adapter.path if self.adapter else "",
        )


def _with_examples(spec: InferenceSpec, voter: ModelVoter, retrieval_key: RetrievalKey | None) -> InferenceSpec:
    assert retrieval_key is not None
    return replace(
        spec,
        examples=voter.examples,
        neighbours=voter.examples * (2 if retrieval_key.spare else 1),
        tokens=retrieval_key.tokens,
        index=retrieval_key.fingerprint,
    )


def _resolve_voter(
    name: str, voter: AskedVoter, builder: SpecBuilder, questions: _CalibrationQuestions
) -> ResolvedVoter:
    """Resolve one voter, with the calibration that its settings ask for."""
    if isinstance(voter, EvidenceVoter | ProbeVoter):
        spec = builder.build(voter)
        # States of questions that the weights were trained on are surer than those of others: nothing is learnt there.
        trained = lora.learnt_by(builder.adapter.folder) if builder.adapter else frozenset()
        learning = [q for q in questions.learning if not trained or content_key(q) not in trained]
        return ResolvedVoter(
            name, voter, voter.pool, spec, Calibration(spec, tuple(learning[: voter.learn_from]), "fit")
        )
    if isinstance(voter, VerifyVoter) and voter.threshold == "fit":
        to_the_end = builder.build(voter.model_copy(update={"threshold": NEVER}))
        known = digest(*sorted(to_the_end.key(question) for question in questions.fit))
        calibration = Calibration(to_the_end, questions.fit, "fit")
        return ResolvedVoter(name, voter, voter.pool, builder.build(voter, known), calibration)
    if not isinstance(voter, DirectVoter) or voter.calibrate == "none":
        return ResolvedVoter(name, voter, voter.pool, builder.build(voter))
    single = builder.build(voter.model_copy(update={"readings": 1, "early_exit": "none"}))
    empty = voter.calibrate == "null-prompt"
    if empty:
        calibration = Calibration(single, questions.null, "null")
    elif exits_early(voter):
        calibration = Calibration(single, questions.pilot, "pilot")
    else:
        calibration = Calibration(builder.build(voter))
    known = digest(*sorted(single.key(question) for question in calibration.questions)) if exits_early(voter) else ""
    return ResolvedVoter(name, voter, voter.pool, builder.build(voter, known), calibration)


def learning_examples(questions: QuestionSet, seed: int) -> tuple[Question, ...]:
    """Return the labelled examples that are not asked, under the names of examples, in a seeded order."""
    asked = questions.content_keys
    rows = [example for example in questions.examples if content_key(example) not in asked]
    rows.sort(key=lambda q: digest("fit", seed, q.question, q.choices, q.task_id))
    return tuple(replace(q, task_id=f"{FIT}{q.task_id}") for q in rows)


def write_pilot(run: RunDir, voters: Mapping[str, ResolvedVoter]) -> None:
    """Write the pilot's questions, so that raising the limit leaves the pilot as it is."""
    for voter in voters.values():
        if voter.calibration and voter.calibration.source == "pilot":
            pilot = voter.calibration.questions
            run.write(PILOT_FILE, json.dumps([identity(question) for question in pilot]).encode())


def weights_digest(model: model_source.Model, settings: ModelSettings) -> str:
    """Return the digest of a model in a spec: its files, the settings that change its numbers, and changed prompts."""
    return digest(model.fingerprint, answer_settings(settings), *changed_prompts(model))
