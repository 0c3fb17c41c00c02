"""Run one engine pool: find unanswered items, stream them through Ray Data, persist the answers.

due items -> [stage after stage: pending/ -> Ray Data: read blocks | look up | answer | keep] -> answers/
"""

import uuid
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from codemmlu.dataset.stored import stored_questions
from codemmlu.engine import lora, model_source
from codemmlu.engine.backends import open_engine
from codemmlu.engine.placement.allocation import allocate
from codemmlu.engine.placement.gpus import Resources
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.engine.placement.placement import (
    WORKER_CORES,
    Placement,
    block_size,
    place,
    place_tools,
    place_without_engine,
    refuse_idle_gpus,
)
from codemmlu.engine.scripted import is_scripted
from codemmlu.errors import Progress
from codemmlu.evidence import PROBES
from codemmlu.inference.answer_store import AnswerKeySet, KnownKeys, known_keys
from codemmlu.inference.backlog import (
    NOTHING,
    BacklogCounts,
    PendingFolder,
    StageParameters,
    count_backlog,
    write_backlog,
)
from codemmlu.inference.calibration import Calibration, write_prior, write_threshold
from codemmlu.inference.engine_settings import engine_settings, states_settings
from codemmlu.inference.letter_mass import LetterMass
from codemmlu.inference.pool import Pool, PoolSpec, StageBlocks
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.stages import PoolSession, Stage, items
from codemmlu.inference.tools import describe_tools
from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import load_votes, unclear
from codemmlu.inference.worker import WorkerSpec
from codemmlu.recipe import EvidenceVoter, ProbeVoter, Recipe, WhenSettings
from codemmlu.run_dir import RunDir

if TYPE_CHECKING:
    from codemmlu.retrieval import shared_index


@dataclass(frozen=True)
class RunContext:
    """What all pools of a run share.

    Attributes:
        models: The checked models of the recipe, by name.
        shared: Returns the index in the object store, which it puts there when first called; None without an index.
    """

    recipe: Recipe
    progress: Progress
    run: RunDir
    ensemble: Ensemble
    models: dict[str, model_source.Model]
    shared: Callable[[], "shared_index.SharedIndex"] | None


@dataclass(frozen=True)
class _Start:
    """A session that has stages left to run, and the placement of its engines.

    Attributes:
        session: The session.
        stages: The stages that are left.
        pending: The backlog of the first of them.
        known: The keys that the backlog was counted with.
        placement: The placement of the engines.
    """

    session: PoolSession
    stages: tuple[Stage, ...]
    pending: BacklogCounts
    known: KnownKeys
    placement: Placement

    @property
    def specs(self) -> tuple[InferenceSpec, ...]:
        """Return all specs of the session: even one that is answered may still be needed for a calibration."""
        return tuple(dict.fromkeys(task.spec for stage in self.session.stages for task in stage))


def ask(context: RunContext, group: Sequence[PoolSession]) -> None:
    """Run the sessions of a group, side by side where the cluster has room for all of their pools."""
    refuse_low_mass(context, [planned.pool for planned in group])
    due = [(planned, *left) for planned in group if (left := _left(context, planned))]
    if not due:
        return
    from codemmlu.cluster import locks, session, tasks

    resources = session.join(context.recipe.gpus)
    locks.refuse_unshared(context.run)
    starts = [_Start(*planned, _place(context, planned[0].pool, resources)) for planned in due]
    shares = allocate({start.session.pool: start.placement for start in starts}, resources)
    if context.shared and any(spec.neighbours for start in starts for spec in start.specs):
        context.shared()  # The index is shared here, once, and not in several threads.
    go = partial(_go, context, resources)
    with tasks.without_actor_warning(), context.progress.together():
        if shares is None:
            for start in starts:
                go(start)
        else:
            context.progress.say(f"{', '.join(shares)}: side by side, there is room for all of them")
            tasks.together([partial(go, replace(start, placement=shares[start.session.pool])) for start in starts])


def refuse_low_mass(context: RunContext, pools: Iterable[str]) -> None:
    """Refuse models whose stored answers have no letter mass, with a UserError; a low one is reported."""
    for pool in pools:
        if masses := _masses(context, pool):
            masses.add_stored(context.run)


def _masses(context: RunContext, pool: str) -> LetterMass | None:
    """Return the empty letter masses of a pool; None for a pool without a model."""
    if pool not in context.models:
        return None
    voters = {voter.spec.name: name for name, voter in context.ensemble.voters.items() if voter.pool == pool}
    return LetterMass(context.progress, pool, voters, context.recipe.models[pool].allow_low_mass)


def _left(context: RunContext, session: PoolSession) -> tuple[tuple[Stage, ...], BacklogCounts, KnownKeys] | None:
    """Return what is left of a session: stages, the backlog of the first, and the known keys; None: nothing."""
    say = context.progress.say
    known = known_keys(context.run, session.pool)
    stages, pending = _due(context, session, known)
    if pending.kept:
        say(f"{session.pool}: {pending.kept:,} answers are here already and are not asked again")
    if not stages:
        say(f"{session.pool}: nothing left to ask, no engine is started")
        return None
    if pending.retried:
        say(f"{session.pool}: {pending.retried:,} questions failed before and are asked again")
    return stages, pending, known


def _go(context: RunContext, resources: Resources, start: _Start) -> None:
    """Start a pool and run its stages, one after another."""
    from codemmlu.inference import pipeline

    run, name, stages, placement = context.run, start.session.pool, start.stages, start.placement
    worker_spec = _worker_spec(context, start, resources)
    for voter in context.ensemble.voters.values():
        if voter.pool == name and isinstance(voter.settings, EvidenceVoter):
            context.progress.say(describe_tools(voter.settings))
    source = f", {context.models[name].source}" if name in context.models else ""
    context.progress.say(
        f"{name}: asking {start.pending.due:,}{_later(stages)}; starting {placement} ({resources}){source}"
    )
    later = [_at_most(run, stage) for stage in stages[1:]]
    block = block_size(max([start.pending.questions, *later]), placement)
    run.clear(f"pending/{name}")
    attempt = f"pending/{name}/{uuid.uuid4().hex[:8]}"  # A killed job may still be reading the last attempt's folder.
    sizes = [(start.pending.questions, start.pending.due), *((most, 0) for most in later)]
    blocks = [
        StageBlocks(
            folder,
            -(-most // block),
            due,
            partial(
                _fill, context, name, PendingFolder(run, folder, block), stage, None if number else start.known.answered
            ),
        )
        for number, (stage, (most, due)) in enumerate(zip(stages, sizes, strict=True))
        for folder in (f"{attempt}/{number}",)
    ]
    worker = PoolSpec(worker_spec, start.specs, context.ensemble.most_choices, placement.in_flight)
    masses = _masses(context, name)
    limit = context.recipe.models[name].start_timeout if masses else None
    pipeline.run_pipeline(context.progress, run, Pool(name, worker, placement, block, masses, limit), blocks)
    if masses:  # A small run has fewer answers than the first ones that are enough.
        masses.add((), least=1)
    run.clear(f"pending/{name}")


def _due(context: RunContext, session: PoolSession, known: KnownKeys) -> tuple[tuple[Stage, ...], BacklogCounts]:
    """Return the stages from the first one with a backlog on, and that backlog; no stages: none is left."""
    kept = NOTHING
    for number, stage in enumerate(session.stages):
        pending = count_backlog(known, items(context.run, stage, partial(_unclear, context)))
        if pending.due:
            return session.stages[number:], replace(pending, kept=pending.kept + kept.kept)
        kept += pending
    return (), kept


class _Everything(Container[str]):
    """Every task_id: the questions that are unclear before any answer is known."""

    def __contains__(self, _: object) -> bool:
        return True


def _at_most(run: RunDir, stage: Stage) -> int:
    """Count the items of a stage for the case that earlier stages leave every question unclear."""
    return sum(1 for _ in items(run, stage, lambda _: _Everything()))


def _later(stages: Sequence[Stage]) -> str:
    later = len(stages) - 1
    return f", and then what {later} later stage{'s' * (later > 1)} may need" if later else ""


def _fill(
    context: RunContext, pool: str, target: PendingFolder, stage: Stage, answered: AnswerKeySet | None
) -> tuple[int, int]:
    """Write a stage's blocks from what earlier stages found: unclear questions, letter priors, thresholds.

    Args:
        context: The run.
        pool: The pool that answers.
        target: Where the blocks go.
        stage: The stage.
        answered: The keys with an answer; None after an earlier stage, whose answers have keys of their own.

    Returns:
        The numbers of blocks and of answers due.
    """
    run = context.run
    parameters = {task.spec.name: _stage_parameters(run, pool, task.after) for task in stage if task.after}
    if answered is None:
        answered = known_keys(run, pool).answered
    return write_backlog(target, answered, items(run, stage, partial(_unclear, context)), parameters)


def _stage_parameters(run: RunDir, pool: str, after: Calibration) -> StageParameters:
    """Estimate what a stage needs, and write it so that a later attempt uses the same values."""
    if after.source == "fit":
        return StageParameters(threshold=write_threshold(run, pool, after))
    return StageParameters(prior=write_prior(run, pool, after))


def _unclear(context: RunContext, when: WhenSettings) -> frozenset[str]:
    task_ids: frozenset[str] = frozenset()
    # Each split is taken by itself, as the vote will take it.
    for questions in (list(stored_questions(context.run)), list(context.ensemble.fit_questions)):
        votes = load_votes(context.run, context.ensemble.voters, when.names, questions)
        task_ids |= unclear(when, {name: votes[name].votes for name in when.names})
    return task_ids


def _place(context: RunContext, pool: str, resources: Resources) -> Placement:
    if model := context.models.get(pool):
        settings = context.recipe.models[pool]
        if is_scripted(model.source):
            return place(pool, settings, resources)
        refuse_idle_gpus(resources)
        return place(pool, settings, resources, ModelFacts(model.config, model.weight_bytes))
    if pool in PROBES:
        return place_tools(resources)
    if _read_model(context, pool):
        return place_without_engine(resources, "cpu")
    return place_without_engine(resources, context.recipe.examples.embedder.device)


def _worker_spec(context: RunContext, start: _Start, resources: Resources) -> WorkerSpec:
    """Return what each actor of the pool opens."""
    pool, specs, worker_spec = start.session.pool, start.specs, WorkerSpec(None, None)
    model = context.models.get(pool)
    if model:
        known = {voter.adapter.path: voter.adapter for voter in context.ensemble.voters.values() if voter.adapter}
        adapters = [known[spec.adapter] for spec in specs if spec.adapter]
        settings = engine_settings(model, start.placement, context.recipe.seed, lora.engine_arguments(adapters))
        worker_spec = WorkerSpec(open_engine, replace(settings, name=pool))
    elif read := _read_model(context, pool):
        worker_spec = WorkerSpec(open_engine, states_settings(context.models[read], context.recipe.models[read], read))
    if context.shared and any(spec.neighbours for spec in specs):
        from codemmlu.retrieval import shared_index

        threads = 1 if model else min(resources.cpus, WORKER_CORES)
        device = "cpu" if model else context.recipe.examples.embedder.device
        worker_spec = replace(worker_spec, open_retriever=partial(shared_index.load, context.shared(), threads, device))
    return worker_spec


def _read_model(context: RunContext, pool: str) -> str | None:
    """Return the name of the model whose hidden states a pool reads; None for any other pool."""
    voters = (voter.settings for voter in context.ensemble.voters.values() if voter.pool == pool)
    return next((voter.model for voter in voters if isinstance(voter, ProbeVoter)), None)
