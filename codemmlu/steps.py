"""The steps of a run, one function per job: each takes the job and gives back its outcome.

examples -> [Ray Data: embed | shards] -> index/
questions -> questions/ -> pending/ -> [Ray Data: read blocks | look up | answer | keep] -> answers/ -> votes -> outcome
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from codemmlu import questions as question_room
from codemmlu.answering.asks import Ask, View, ask_of
from codemmlu.answering.pending import survey, write_blocks
from codemmlu.answering.worker import Tools
from codemmlu.command import Job, Outcome
from codemmlu.engine import sources
from codemmlu.engine.placement import (
    WORKER_CORES,
    Placement,
    answer_settings,
    block_size,
    check_engine_arguments,
    place,
    place_without_engine,
)
from codemmlu.engine.protocol import EngineSettings, OpenEngine
from codemmlu.engine.vllm_engine import open_vllm
from codemmlu.errors import UserError
from codemmlu.outcome import conclude
from codemmlu.questions import Loaded
from codemmlu.recipe import ModelSettings, Recipe, RetrieveVoter, digest, uses_examples
from codemmlu.rows import Question, Rejected, to_table
from codemmlu.run_dir import ISSUE, RunDir, refuse_deletable
from codemmlu.shelf import Shelf, find_shelf, held_out_of

if TYPE_CHECKING:
    from codemmlu import indexing

# Rows of one questions/ file. Within it the longest come first, so that trouble with memory shows at the start and the
# time left errs high, while reading holds no more than this.
_CHUNK = 10_000

NO_HOLDOUT = "questions.holdout is ignored: questions.source and examples.source are not the same"


@dataclass(frozen=True)
class Pool:
    """One model and the asks behind its voters. A pool is one set of engines and one folder of answers.

    settings, model: None in the pool that asks no model and looks examples up only
    """

    name: str
    settings: ModelSettings | None
    model: sources.Model | None
    by_voter: dict[str, Ask]

    @property
    def asks(self) -> tuple[Ask, ...]:
        """What is asked, once each, however many voters look at it."""
        return tuple({ask.name: ask for ask in self.by_voter.values()}.values())


def whole_run(job: Job, open_engine: OpenEngine = open_vllm) -> Outcome:
    """Everything a recipe asks for: `answer` makes the index that it needs; what is done is skipped by each step."""
    return answer(job, open_engine)


def index(job: Job) -> Outcome:
    """Makes the index of solved examples, or says that it stands already."""
    if job.recipe.examples.source is None:
        raise UserError("examples.source: the recipe names no examples to make an index of")
    if job.dry_run:
        return _planned(job)
    with _run(job):
        shelf = find_shelf(job, labelled=True)
    report = shelf.manifest.model_dump(exclude={"shards", "weights"}) | {"index": shelf.index.shown}
    job.terminal.say(f"To answer with it: {job.again.replace('jobs/index.py', 'jobs/run.py')}")
    return Outcome(report, 0)


def answer(job: Job, open_engine: OpenEngine = open_vllm) -> Outcome:
    """Asks every voter's questions of its model, then votes and reports. What is there already is not asked again."""
    if job.dry_run:
        return _planned(job)
    recipe = job.recipe
    with _run(job) as run:
        run.write(ISSUE, uuid.uuid4().hex.encode())  # what an earlier issue still has under way stays out from here on
        loaded = store_questions(recipe, run, job)
        needed = any(uses_examples(voter) for voter in recipe.voters.values())
        models = find_models(recipe)
        shelf = find_shelf(job, loaded.labelled > 0) if needed else None
        if shelf and shelf.manifest.weights is None:
            refuse_retrieve(recipe)
        pools = find_pools(recipe, models, shelf.view if shelf else None)
        run.write("recipe.yaml", recipe.as_yaml().encode())
        shared = cache(partial(_share, shelf)) if shelf else None
        for pool in pools:
            _ask_pool(job, run, pool, loaded, open_engine, shared)
        return conclude(job, run, {voter: (p.name, ask) for p in pools for voter, ask in p.by_voter.items()}, loaded)


def _planned(job: Job) -> Outcome:
    from codemmlu.plan import plan

    return plan(job)


@contextmanager
def _run(job: Job) -> Iterator[RunDir]:
    """The run directory, this job's alone."""
    refuse_deletable(job.recipe.out)
    run = RunDir(job.recipe.out)
    job.terminal.say(f"Run directory {run.shown}")
    run.create()
    with _alone(run):
        yield run


def store_questions(recipe: Recipe, run: RunDir, job: Job) -> Loaded:
    """Reads and cleans the questions into questions/ and rejected.parquet, and says what was found."""
    held = held_out_of(recipe)
    if recipe.questions.holdout and held is None:
        job.terminal.say(NO_HOLDOUT)
    loaded = question_room.load(recipe.questions, held)
    rejected: list[Rejected] = []
    chunk: list[Question] = []
    files = 0
    run.clear("questions")
    for row in loaded.rows():
        if isinstance(row, Rejected):
            rejected.append(row)
            continue
        chunk.append(row)
        if len(chunk) == _CHUNK:
            _store_chunk(run, files, chunk)
            chunk, files = [], files + 1
    if chunk:
        _store_chunk(run, files, chunk)
    run.write_table("rejected.parquet", to_table(rejected, Rejected))
    for line in describe(loaded):
        job.terminal.say(line)
    return loaded


def describe(loaded: Loaded) -> list[str]:
    """What was read, in lines for the terminal."""
    rejected = f", {loaded.rejected:,} rejected (see rejected.parquet)" if loaded.rejected else ""
    head = f"{loaded.questions:,} questions from {loaded.settings.source}, {loaded.labelled:,} with an answer{rejected}"
    return [head, *(f"  {note}" for note in loaded.notes())]


def find_models(recipe: Recipe) -> dict[str, sources.Model]:
    """The models that are asked, each proved to be there. Raises UserError."""
    models = {}
    for name, settings in recipe.models.items():
        if any(voter.pool == name for voter in recipe.voters.values()):
            check_engine_arguments(name, settings)
            models[name] = sources.inspect(settings.source, settings.revision, sources.cache_folder())
    return models


def find_pools(recipe: Recipe, models: dict[str, sources.Model], view: View | None) -> list[Pool]:
    """The pools and the asks of their voters. view: on the examples, for voters that look at some."""
    pools = []
    alone = {voter: v for voter, v in recipe.voters.items() if isinstance(v, RetrieveVoter)}
    for name in sorted({voter.pool for voter in alone.values()}):
        pools.append(Pool(name, None, None, {voter: ask_of(v, "", view) for voter, v in alone.items()}))
    for name, model in models.items():
        settings = recipe.models[name]
        weights = weights_digest(model, settings)
        voters = {voter: v for voter, v in recipe.voters.items() if v.pool == name}
        by_voter = {voter: ask_of(v, weights, view) for voter, v in voters.items()}
        pools.append(Pool(name, settings, model, by_voter))
    return pools


def weights_digest(model: sources.Model, settings: ModelSettings) -> str:
    """What an ask knows of its model: the files, and the settings that change its numbers."""
    return digest(model.fingerprint, answer_settings(settings))


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """One live run on one `out`: a file lock on a path, a name in the cluster for an address."""
    if run.is_local:
        with run.lock():
            yield
        return
    from codemmlu import cluster

    with cluster.lock(run):
        yield


def _ask_pool(
    job: Job,
    run: RunDir,
    pool: Pool,
    loaded: Loaded,
    open_engine: OpenEngine,
    shared: Callable[[], "indexing.Shared"] | None,
) -> None:
    pending = survey(run, pool.name, pool.asks)
    if pending.kept:
        job.terminal.say(f"{pool.name}: {pending.kept:,} answers are here already and are not asked again")
    if not pending.due:
        job.terminal.say(f"{pool.name}: nothing left to ask, no engine is started")
        return
    if pending.retried:
        job.terminal.say(f"{pool.name}: {pending.retried:,} questions failed before and are asked again")
    from codemmlu import cluster, indexing, pipeline  # in this order: see cluster

    resources = cluster.join()
    cluster.refuse_unshared(run)
    if pool.model and pool.settings:
        placement = place(pool.name, pool.settings, resources)
        source = f", {pool.model.source}"
        tools = Tools(open_engine, engine_settings(pool.model, placement, job.recipe.seed))
    else:
        placement = place_without_engine(resources, job.recipe.examples.embedder.device)
        source, tools = "", Tools(None, None)
    if shared and any(ask.neighbours for ask in pool.asks):
        threads = 1 if pool.model else min(resources.cpus, WORKER_CORES)
        tools = replace(tools, open_library=partial(indexing.open_shared, shared(), threads))
    job.terminal.say(f"{pool.name}: asking {pending.due:,}; starting {placement} ({resources}){source}")
    blocks = write_blocks(run, pool.name, pool.asks, block_size(pending.questions, placement))
    worker = pipeline.Worker(tools, pool.asks, loaded.most_choices)
    pipeline.ask_all(job.terminal, run, pool.name, pending.due, blocks, worker, placement)
    run.clear(f"pending/{pool.name}")


def refuse_retrieve(recipe: Recipe) -> None:
    """Raises UserError where a voter has nothing to learn from."""
    for name, voter in recipe.voters.items():
        if isinstance(voter, RetrieveVoter):
            raise UserError(
                f"voters.{name}: every example is a question that is asked, so there is nothing to learn from; "
                "give other examples, or questions.holdout"
            )


def _share(shelf: Shelf) -> "indexing.Shared":
    """The index in Ray's object store, once for all pools."""
    from codemmlu import indexing

    return indexing.share(shelf.index, shelf.manifest, shelf.embedder, shelf.settings, shelf.rule)


def engine_settings(model: sources.Model, placement: Placement, seed: int) -> EngineSettings:
    """What crosses to the actor: plain values."""
    arguments = {"seed": seed, **placement.arguments}
    if model.revision:
        arguments["revision"] = model.revision
    return EngineSettings(model.source, sources.cache_folder(), arguments)


def _store_chunk(run: RunDir, number: int, chunk: list[Question]) -> None:
    chunk.sort(key=lambda q: (-len(q.question) - sum(map(len, q.choices)), q.position))
    run.write_table(f"questions/{number:06d}.parquet", to_table(chunk, Question))
