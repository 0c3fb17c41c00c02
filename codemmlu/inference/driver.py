"""Asking: one start of a pool, from what it is due to durable answers.

due items -> [wave after wave: pending/ -> Ray Data: read blocks | look up | answer | keep] -> answers/
"""

import uuid
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from codemmlu.dataset.stored import stored_questions
from codemmlu.engine import lora, model_source
from codemmlu.engine.backends import open_engine
from codemmlu.engine.placement.allocation import allocate
from codemmlu.engine.placement.gpus import Resources
from codemmlu.engine.placement.memory import ModelFacts
from codemmlu.engine.placement.placement import (
    WORKER_CORES,
    Placement,
    block_size,
    place,
    place_without_engine,
    refuse_idle_gpus,
)
from codemmlu.engine.protocol import EngineSettings
from codemmlu.engine.scripted import SCRIPTED, is_scripted
from codemmlu.errors import Progress
from codemmlu.inference.backlog import NOTHING, BacklogCounts, StageParameters, count_backlog, write_backlog
from codemmlu.inference.calibration import Calibration, write_prior, write_threshold
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.stages import PoolSession, Stage, items
from codemmlu.inference.voters import Ensemble
from codemmlu.inference.votes import load_votes, unclear
from codemmlu.inference.worker import WorkerSpec
from codemmlu.recipe import Recipe, WhenSettings
from codemmlu.run_dir import RunDir

if TYPE_CHECKING:
    from codemmlu.retrieval import shared_index


@dataclass(frozen=True)
class RunContext:
    """What all pools of a run share.

    models: the checked models of the recipe, by name
    shared: the index in the object store, put there when first needed
    """

    recipe: Recipe
    progress: Progress
    run: RunDir
    ensemble: Ensemble
    models: dict[str, model_source.Model]
    shared: Callable[[], "shared_index.SharedIndex"] | None


@dataclass(frozen=True)
class _Start:
    """A pool with something left to ask, and where it runs."""

    one: PoolSession
    waves: tuple[Stage, ...]
    pending: BacklogCounts
    placement: Placement

    @property
    def asks(self) -> tuple[InferenceSpec, ...]:
        """All asks of the pass: an answered one may still be needed to judge by."""
        return tuple(dict.fromkeys(asking.ask for wave in self.one.waves for asking in wave))


def ask(context: RunContext, group: Sequence[PoolSession]) -> None:
    """One start of each pool of a group, for all that it is due: at once where the cluster has room for all of them."""
    due = [(one, *found) for one in group if (found := _left(context, one))]
    if not due:
        return
    from codemmlu.cluster import locks, session, tasks

    resources = session.join(context.recipe.gpus)
    locks.refuse_unshared(context.run)
    starts = [_Start(*one, _place(context, one[0].pool, resources)) for one in due]
    shares = allocate({start.one.pool: start.placement for start in starts}, resources)
    if context.shared and any(ask.neighbours for start in starts for ask in start.asks):
        context.shared()  # here, once, and not in several threads
    go = partial(_go, context, resources)
    with tasks.without_actor_warning(), context.progress.together():
        if shares is None:
            for start in starts:
                go(start)
        else:
            context.progress.say(f"{', '.join(shares)}: side by side, there is room for all of them")
            tasks.together([partial(go, replace(start, placement=shares[start.one.pool])) for start in starts])


def _left(context: RunContext, one: PoolSession) -> tuple[tuple[Stage, ...], BacklogCounts] | None:
    """What a pass has left to ask; None: nothing."""
    say = context.progress.say
    waves, pending = _due(context, one)
    if pending.kept:
        say(f"{one.pool}: {pending.kept:,} answers are here already and are not asked again")
    if not waves:
        say(f"{one.pool}: nothing left to ask, no engine is started")
        return None
    if pending.retried:
        say(f"{one.pool}: {pending.retried:,} questions failed before and are asked again")
    return waves, pending


def _go(context: RunContext, resources: Resources, start: _Start) -> None:
    """Starts a pool and asks it, wave after wave."""
    from codemmlu.inference import pipeline

    run, name, waves, placement = context.run, start.one.pool, start.waves, start.placement
    tools = _tools(context, start, resources)
    source = f", {context.models[name].source}" if name in context.models else ""
    context.progress.say(
        f"{name}: asking {start.pending.due:,}{_later(waves)}; starting {placement} ({resources}){source}"
    )
    later = [_at_most(run, wave) for wave in waves[1:]]
    block = block_size(max([start.pending.questions, *later]), placement)
    run.clear(f"pending/{name}")
    folder = f"pending/{name}/{uuid.uuid4().hex[:8]}"  # a job that was killed may still be reading the last issue's
    known = [(start.pending.questions, start.pending.due), *((most, 0) for most in later)]
    its = [
        pipeline.StageBlocks(place, -(-most // block), due, partial(_fill, context, name, place, wave, block))
        for number, (wave, (most, due)) in enumerate(zip(waves, known, strict=True))
        for place in (f"{folder}/{number}",)
    ]
    worker = pipeline.PoolSpec(tools, start.asks, context.ensemble.most_choices, placement.in_flight)
    pipeline.run_pipeline(context.progress, run, name, its, worker, placement, block)
    run.clear(f"pending/{name}")


def _due(context: RunContext, one: PoolSession) -> tuple[tuple[Stage, ...], BacklogCounts]:
    """The waves from the first on that has something left to ask, and what that one has; none: all is there."""
    kept = NOTHING
    for number, wave in enumerate(one.waves):
        pending = count_backlog(context.run, one.pool, items(context.run, wave, partial(_unclear, context)))
        if pending.due:
            return one.waves[number:], replace(pending, kept=pending.kept + kept.kept)
        kept += pending
    return (), kept


class _Everything(Container[str]):
    """Every task_id: what is unclear while nothing is known."""

    def __contains__(self, _: object) -> bool:
        return True


def _at_most(run: RunDir, wave: Stage) -> int:
    """How many items a wave has if nothing is clear before."""
    return sum(1 for _ in items(run, wave, lambda _: _Everything()))


def _later(waves: Sequence[Stage]) -> str:
    return "" if len(waves) == 1 else f", and then what {len(waves) - 1} later pass{'es' * (len(waves) > 2)} may need"


def _fill(context: RunContext, pool: str, folder: str, wave: Stage, block: int) -> tuple[int, int]:
    """Writes a wave's blocks, with what earlier waves told: which questions are unclear, which letters are liked."""
    run = context.run
    given = {asking.ask.name: _given(run, pool, asking.after) for asking in wave if asking.after}
    return write_backlog(run, pool, folder, items(run, wave, partial(_unclear, context)), block, given)


def _given(run: RunDir, pool: str, after: Calibration) -> StageParameters:
    """What an earlier wave found out. It is written down: what is answered in a later issue is judged by the same."""
    if after.split == "fit":
        return StageParameters(threshold=write_threshold(run, pool, after))
    return StageParameters(prior=write_prior(run, pool, after))


def _unclear(context: RunContext, when: WhenSettings) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    # Each split by itself, as the vote will look at them.
    for questions in (list(stored_questions(context.run)), list(context.ensemble.fit_questions)):
        seen = load_votes(context.run, context.ensemble.voters, when.of, questions)
        found |= unclear(when, {name: seen[name].votes for name in when.of})
    return found


def _place(context: RunContext, pool: str, resources: Resources) -> Placement:
    if model := context.models.get(pool):
        settings = context.recipe.models[pool]
        if is_scripted(model.source):
            return place(pool, settings, resources)
        refuse_idle_gpus(resources)
        return place(pool, settings, resources, ModelFacts(model.config, model.weight_bytes))
    return place_without_engine(resources, context.recipe.examples.embedder.device)


def _tools(context: RunContext, start: _Start, resources: Resources) -> WorkerSpec:
    """What the pool's actors open."""
    pool, asks, tools = start.one.pool, start.asks, WorkerSpec(None, None)
    model = context.models.get(pool)
    if model:
        adapters = lora.engine_arguments(lora.validate(one.adapter, f"models.{pool}") for one in asks if one.adapter)
        tools = WorkerSpec(open_engine, _engine_settings(model, start.placement, context.recipe.seed, adapters))
    if context.shared and any(ask.neighbours for ask in asks):
        from codemmlu.retrieval import shared_index

        threads = 1 if model else min(resources.cpus, WORKER_CORES)
        device = "cpu" if model else context.recipe.examples.embedder.device
        tools = replace(tools, open_library=partial(shared_index.load, context.shared(), threads, device))
    return tools


def _engine_settings(
    model: model_source.Model, placement: Placement, seed: int, lora: dict[str, Any]
) -> EngineSettings:
    """What crosses to the actor: plain values."""
    if is_scripted(model.source):
        return EngineSettings(model.source, model_source.cache_folder(), {"script": model.config}, backend=SCRIPTED)
    arguments = {"seed": seed, **placement.arguments, **lora}
    if model.revision:
        arguments["revision"] = model.revision
    label = placement.label if placement.spans else None
    return EngineSettings(model.source, model_source.cache_folder(), arguments, label)
