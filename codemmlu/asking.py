"""Asking: one start of a pool, from what it is due to durable answers.

due items -> [wave after wave: pending/ -> Ray Data: read blocks | look up | answer | keep] -> answers/
"""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from codemmlu.answering.asks import Ask
from codemmlu.answering.pending import NOTHING, Given, Pending, stored_questions, survey, write_blocks
from codemmlu.answering.schedule import Calibration, Panel, Pass, Wave, items
from codemmlu.answering.worker import Tools
from codemmlu.command import Job
from codemmlu.engine import adapters, sources
from codemmlu.engine.hardware import Resources
from codemmlu.engine.memory import Known
from codemmlu.engine.placement import WORKER_CORES, Placement, block_size, place, place_without_engine
from codemmlu.engine.protocol import EngineSettings, OpenEngine
from codemmlu.recipe import WhenSettings
from codemmlu.run_dir import RunDir
from codemmlu.voting.views import see_stored, unclear, write_prior, write_threshold

if TYPE_CHECKING:
    from codemmlu import indexing


@dataclass(frozen=True)
class Toolbox:
    """What pools are opened with. shared: the index in the object store, put there when first needed."""

    open_engine: OpenEngine
    models: dict[str, sources.Model]
    shared: Callable[[], "indexing.Shared"] | None


def ask(job: Job, run: RunDir, one: Pass, panel: Panel, toolbox: Toolbox) -> None:
    """One start of a pool, for all that it is due."""
    name, say = one.pool, job.terminal.say
    asks = tuple(dict.fromkeys(asking.ask for wave in one.waves for asking in wave))
    waves, pending = _due(run, one, panel)
    if pending.kept:
        say(f"{name}: {pending.kept:,} answers are here already and are not asked again")
    if not waves:
        say(f"{name}: nothing left to ask, no engine is started")
        return
    if pending.retried:
        say(f"{name}: {pending.retried:,} questions failed before and are asked again")
    from codemmlu import cluster, pipeline  # in this order: see cluster

    resources = cluster.join()
    cluster.refuse_unshared(run)
    tools, placement = _open(job, name, asks, toolbox, resources)
    source = f", {toolbox.models[name].source}" if name in toolbox.models else ""
    say(f"{name}: asking {pending.due:,}{_later(waves)}; starting {placement} ({resources}){source}")
    later = [_at_most(run, panel, wave) for wave in waves[1:]]
    block = block_size(max([pending.questions, *later]), placement)
    run.clear(f"pending/{name}")
    folder = f"pending/{name}/{uuid.uuid4().hex[:8]}"  # a job that was killed may still be reading the last issue's
    most = [-(-count // block) for count in (pending.questions, *later)]
    its = [
        pipeline.Wave(f"{folder}/{number}", count, partial(_fill, run, name, f"{folder}/{number}", wave, panel, block))
        for number, (wave, count) in enumerate(zip(waves, most, strict=True))
    ]
    worker = pipeline.Worker(tools, asks, panel.most_choices)
    pipeline.ask_all(job.terminal, run, name, its, worker, placement, block)
    run.clear(f"pending/{name}")


def _due(run: RunDir, one: Pass, panel: Panel) -> tuple[tuple[Wave, ...], Pending]:
    """The waves from the first on that has something left to ask, and what that one has; none: all is there."""
    kept = NOTHING
    for number, wave in enumerate(one.waves):
        pending = survey(run, one.pool, items(run, wave, partial(_unclear, run, panel)))
        if pending.due:
            return one.waves[number:], replace(pending, kept=pending.kept + kept.kept)
        kept += pending
    return (), kept


def _at_most(run: RunDir, panel: Panel, wave: Wave) -> int:
    """How many items a wave has if nothing is clear before."""
    everything = frozenset(q.task_id for q in (*stored_questions(run), *panel.weighed))
    return sum(1 for _ in items(run, wave, lambda _: everything))


def _later(waves: Sequence[Wave]) -> str:
    return "" if len(waves) == 1 else f", and then what {len(waves) - 1} later pass{'es' * (len(waves) > 2)} may need"


def _fill(run: RunDir, pool: str, folder: str, wave: Wave, panel: Panel, block: int) -> tuple[int, int]:
    """Writes a wave's blocks, with what earlier waves told: which questions are unclear, which letters are liked."""
    given = {asking.ask.name: _given(run, pool, asking.after) for asking in wave if asking.after}
    return write_blocks(run, pool, folder, items(run, wave, partial(_unclear, run, panel)), block, given)


def _given(run: RunDir, pool: str, after: Calibration) -> Given:
    """What an earlier wave found out. It is written down: what is answered in a later issue is judged by the same."""
    if after.split == "fit":
        return Given(threshold=write_threshold(run, pool, after))
    return Given(prior=write_prior(run, pool, after))


def _unclear(run: RunDir, panel: Panel, when: WhenSettings) -> frozenset[str]:
    found: frozenset[str] = frozenset()
    # Each split by itself, as the vote will look at them.
    for questions in (list(stored_questions(run)), list(panel.weighed)):
        seen = see_stored(run, panel.seats, when.of, questions)
        found |= unclear(when, {name: seen[name].votes for name in when.of})
    return found


def _open(
    job: Job, pool: str, asks: tuple[Ask, ...], toolbox: Toolbox, resources: Resources
) -> tuple[Tools, Placement]:
    """What the pool's actors open, and where they are."""
    model = toolbox.models.get(pool)
    if model:
        placement = place(pool, job.recipe.models[pool], resources, Known(model.config, model.weight_bytes))
        lora = adapters.engine_arguments(adapters.inspect(one.adapter, f"models.{pool}") for one in asks if one.adapter)
        tools = Tools(toolbox.open_engine, _engine_settings(model, placement, job.recipe.seed, lora))
    else:
        placement, tools = place_without_engine(resources, job.recipe.examples.embedder.device), Tools(None, None)
    if toolbox.shared and any(ask.neighbours for ask in asks):
        from codemmlu import indexing

        threads = 1 if model else min(resources.cpus, WORKER_CORES)
        tools = replace(tools, open_library=partial(indexing.open_shared, toolbox.shared(), threads))
    return tools, placement


def _engine_settings(model: sources.Model, placement: Placement, seed: int, lora: dict[str, Any]) -> EngineSettings:
    """What crosses to the actor: plain values."""
    arguments = {"seed": seed, **placement.arguments, **lora}
    if model.revision:
        arguments["revision"] = model.revision
    return EngineSettings(model.source, sources.cache_folder(), arguments)
