"""The steps of a run, one function per job: each takes the job and gives back its outcome.

questions -> questions/ -> pending/ -> [Ray Data: read blocks | answer | keep] -> answers/ -> votes -> the outcome
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from codemmlu import questions as question_room
from codemmlu.answering.asks import Ask, ask_of
from codemmlu.answering.pending import survey, write_blocks
from codemmlu.command import Job, Outcome
from codemmlu.engine import sources
from codemmlu.engine.placement import Placement, answer_settings, block_size, check_engine_arguments, place
from codemmlu.engine.protocol import EngineSettings, OpenEngine
from codemmlu.engine.vllm_engine import open_vllm
from codemmlu.errors import UserError
from codemmlu.outcome import conclude
from codemmlu.questions import Loaded
from codemmlu.recipe import ModelSettings, Recipe, digest
from codemmlu.rows import Question, Rejected, to_table
from codemmlu.run_dir import ISSUE, RunDir

# Rows of one questions/ file. Within it the longest come first, so that trouble with memory shows at the start and the
# time left errs high, while reading holds no more than this.
_CHUNK = 10_000


@dataclass(frozen=True)
class Pool:
    """One model and the asks behind its voters. A pool is one set of engines and one folder of answers."""

    name: str
    settings: ModelSettings
    model: sources.Model
    by_voter: dict[str, Ask]

    @property
    def asks(self) -> tuple[Ask, ...]:
        """What is asked, once each, however many voters look at it."""
        return tuple({ask.name: ask for ask in self.by_voter.values()}.values())


def whole_run(job: Job, open_engine: OpenEngine = open_vllm) -> Outcome:
    """Everything a recipe asks for. So far that is answering; what is done is skipped by each step itself."""
    return answer(job, open_engine)


def answer(job: Job, open_engine: OpenEngine = open_vllm) -> Outcome:
    """Asks every voter's questions of its model, then votes and reports. What is there already is not asked again."""
    if job.dry_run:
        from codemmlu.plan import plan

        return plan(job)
    recipe = job.recipe
    refuse_deletable(recipe.out)
    run = RunDir(recipe.out)
    job.terminal.say(f"Run directory {run.shown}")
    run.create()
    with _alone(run):
        run.write(ISSUE, uuid.uuid4().hex.encode())  # what an earlier issue still has under way stays out from here on
        loaded = store_questions(recipe, run, job)
        pools = find_pools(recipe)
        run.write("recipe.yaml", recipe.as_yaml().encode())
        for pool in pools:
            _ask_pool(job, run, pool, loaded, open_engine)
        return conclude(job, run, {voter: (p.name, ask) for p in pools for voter, ask in p.by_voter.items()}, loaded)


def store_questions(recipe: Recipe, run: RunDir, job: Job) -> Loaded:
    """Reads and cleans the questions into questions/ and rejected.parquet, and says what was found."""
    loaded = question_room.load(recipe.questions)
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


def find_pools(recipe: Recipe) -> list[Pool]:
    """The models that are asked, each proved to be there, with the asks of its voters. Raises UserError."""
    pools = []
    for name, settings in recipe.models.items():
        voters = {voter: v for voter, v in recipe.voters.items() if v.model == name}
        if not voters:
            continue
        check_engine_arguments(name, settings)
        model = sources.inspect(settings.source, settings.revision, cache_folder())
        weights = weights_digest(model, settings)
        by_voter = {voter: ask_of(v, weights) for voter, v in voters.items()}
        pools.append(Pool(name, settings, model, by_voter))
    return pools


def weights_digest(model: sources.Model, settings: ModelSettings) -> str:
    """What an ask knows of its model: the files, and the settings that change its numbers."""
    return digest(model.fingerprint, answer_settings(settings))


def cache_folder() -> str:
    """Where models that were made (not downloaded by the Hub's client) are kept; each node has its own."""
    if chosen := os.environ.get("CODEMMLU_CACHE"):
        return str(Path(chosen).absolute())
    return str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "codemmlu")


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


def _ask_pool(job: Job, run: RunDir, pool: Pool, loaded: Loaded, open_engine: OpenEngine) -> None:
    pending = survey(run, pool.name, pool.asks)
    if pending.kept:
        job.terminal.say(f"{pool.name}: {pending.kept:,} answers are here already and are not asked again")
    if not pending.due:
        job.terminal.say(f"{pool.name}: nothing left to ask, no engine is started")
        return
    if pending.retried:
        job.terminal.say(f"{pool.name}: {pending.retried:,} questions failed before and are asked again")
    from codemmlu import cluster, pipeline  # in this order: see cluster

    resources = cluster.join()
    cluster.refuse_unshared(run)
    placement = place(pool.name, pool.settings, resources)
    job.terminal.say(f"{pool.name}: asking {pending.due:,}; starting {placement} ({resources}), {pool.model.source}")
    settings = engine_settings(pool, placement, job.recipe.seed)
    blocks = write_blocks(run, pool.name, pool.asks, block_size(pending.questions, placement))
    worker = pipeline.Worker(open_engine, settings, pool.asks, loaded.most_choices)
    pipeline.ask_all(job.terminal, run, pool.name, pending.due, blocks, worker, placement)
    run.clear(f"pending/{pool.name}")


def refuse_deletable(out: str) -> None:
    """A relative `out` of a submitted job would lie in Ray's copy of the working directory, which Ray deletes."""
    submitted = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    if submitted and "://" not in out and not os.path.isabs(os.path.expanduser(out)):
        raise UserError(
            f"out: {out} is relative, and a submitted job's working directory is deleted by Ray; "
            "give an absolute path or an s3:// or gs:// address"
        )


def engine_settings(pool: Pool, placement: Placement, seed: int) -> EngineSettings:
    """What crosses to the actor: plain values."""
    arguments = {"seed": seed, **placement.arguments}
    if pool.model.revision:
        arguments["revision"] = pool.model.revision
    return EngineSettings(pool.model.source, cache_folder(), arguments)


def _store_chunk(run: RunDir, number: int, chunk: list[Question]) -> None:
    chunk.sort(key=lambda q: (-len(q.question) - sum(map(len, q.choices)), q.position))
    run.write_table(f"questions/{number:06d}.parquet", to_table(chunk, Question))
