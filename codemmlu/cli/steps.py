"""The steps of a run, one function per job: each takes the job and gives back its outcome.

examples -> [Ray Data: embed | shards] -> index/
examples -> lessons -> [Ray Train: workers] -> adapters/
questions -> questions/ -> pending/ -> [Ray Data: read blocks | look up | answer | keep] -> answers/ -> votes -> outcome
"""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

from codemmlu import dataset
from codemmlu.cli.console import Terminal
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.tables import comparison_table, voters_table
from codemmlu.cluster.environment import configure
from codemmlu.dataset import QuestionStream, Submission
from codemmlu.dataset.examples import holdout_ids
from codemmlu.dataset.stored import stored_questions
from codemmlu.engine import model_source
from codemmlu.engine.placement.placement import check_engine_arguments
from codemmlu.errors import UserError, redact_credentials
from codemmlu.inference.stages import concurrent_groups, plan_sessions
from codemmlu.inference.voters import Ensemble, adapter_of, resolve_voters, write_pilot
from codemmlu.recipe import FinetuneSettings, Recipe, RetrieveVoter, SubmissionVoter, adapter_name, uses_examples
from codemmlu.retrieval.index import ensure_index, publish
from codemmlu.run_dir import ISSUE, RunDir, check_persistent_path
from codemmlu.schema import Question, Rejected, to_table

# Rows of one questions/ file. Within it the longest come first, so that trouble with memory shows at the start and the
# time left errs high, while reading holds no more than this.
_CHUNK = 10_000
_UNCHECKED = "questions.new"  # they take the place of an earlier issue's once nothing speaks against the recipe

NO_HOLDOUT = "questions.holdout is ignored: questions.source and examples.source are not the same"


def run(job: JobContext) -> Outcome:
    """Everything a recipe asks for: `answer` makes the index that it needs; what is done is skipped by each step."""
    if job.recipe.finetune:
        finetune(job)
    return answer(job)


def finetune(job: JobContext) -> Outcome:
    """Trains what the recipe's `finetune` says, or says that it stands already."""
    from codemmlu.training.adapter_training import ensure_adapter  # slow to import

    recipe, settings = job.recipe, finetune_settings(job.recipe)
    users = [name for name, voter in recipe.asked.items() if adapter_name(voter) == settings.name]
    for name in recipe.asked.keys() - set(users):  # what cannot be answered is better known before hours of training
        adapter_of(recipe, name, recipe.asked[name], {})
    with _run(job) as run:
        manifest = ensure_adapter(recipe, job.terminal, run, settings)
    job.terminal.say(
        f"To answer with it: {job.command('run')}"
        if users
        else f"No voter answers with it yet: voters.NAME.adapter={settings.name}"
    )
    return Outcome(manifest.model_dump(mode="json"), 0)


def index(job: JobContext) -> Outcome:
    """Makes the index of solved examples, or says that it stands already."""
    refuse_without_examples(job.recipe)
    with _run(job):
        index = ensure_index(job.recipe, job.terminal, labelled=True)
    report = index.manifest.model_dump(exclude={"shards", "weights"}) | {"index": index.index.shown}
    job.terminal.say(f"To answer with it: {job.command('run')}")
    return Outcome(report, 0)


def answer(job: JobContext) -> Outcome:
    """Asks every voter's questions of its model, then votes and reports. What is there already is not asked again."""
    return _answered(job, ask_models=True)


def vote(job: JobContext) -> Outcome:
    """Votes on what has been answered, and reports. Asks nobody."""
    return _answered(job, ask_models=False)


def compare(terminal: Terminal, places: list[str]) -> Outcome:
    """Compare runs on the same questions; of one run, show its voters."""
    from codemmlu.report import comparison  # loads the statistics, which no other job needs before its end

    report = comparison.compare(places)
    if "voters" in report:
        terminal.show(voters_table(report))
        return Outcome(report, 0)
    if not report["comparisons"]:
        terminal.say("No voter of one run has the name of another's, so there is nothing to compare.")
        return Outcome(report, 0)
    terminal.show(comparison_table(report))
    if not report["labelled"]:
        terminal.say("No question has an answer, so only the share of equal letters is shown.")
    return Outcome(report, 0)


def finetune_settings(recipe: Recipe) -> FinetuneSettings:
    """Return the section `finetune` of a recipe.

    Raises:
        UserError: The recipe has no such section.
    """
    if recipe.finetune is None:
        raise UserError("finetune: the recipe has no such section; see recipes/finetune-smol.yaml")
    return recipe.finetune


def refuse_without_examples(recipe: Recipe) -> None:
    """Refuse to make an index where the recipe names no examples."""
    if recipe.examples.source is None:
        raise UserError("examples.source: the recipe names no examples to make an index of")


def _answered(job: JobContext, *, ask_models: bool) -> Outcome:
    """The whole run after its index."""
    from codemmlu.cli.outcome import evaluate
    from codemmlu.inference.driver import RunContext, ask  # a dry run needs none of these, and they take long to import
    from codemmlu.training.adapter_training import check_no_train_overlap

    recipe = job.recipe
    with _run(job) as run:
        run.write(ISSUE, uuid.uuid4().hex.encode())  # what an earlier issue still has under way stays out from here on
        models, submissions = find_models(recipe), find_submissions(recipe)
        loaded, rejected = read_questions(recipe, run, job)
        needed = any(uses_examples(voter) for voter in recipe.voters.values())
        for line in foreign_code(recipe):
            job.terminal.say(line)
        index = (
            ensure_index(recipe, job.terminal, loaded.labelled > 0 or recipe.vote.fit is not None) if needed else None
        )
        if index and index.manifest.weights is None:
            refuse_retrieve(recipe)
        fit = dataset.fit_examples(recipe, holdout_ids(recipe) or frozenset())
        retrieval_key = index.retrieval_key if index else None
        voters = resolve_voters(recipe, models, retrieval_key, run, partial(stored_questions, run, _UNCHECKED), fit)
        check_no_train_overlap(recipe, voters, fit)
        most_choices = max([loaded.most_choices, *(len(question.choices) for question in fit)])
        letters = {name: told.letters for name, told in submissions.items()}
        ensemble = Ensemble(voters, letters, fit, most_choices, recipe.report.order_sensitivity)
        begin(recipe, run, rejected)
        write_pilot(run, voters)
        tell_submissions(job, run, submissions)
        if ask_models:
            shared = cache(partial(publish, index)) if index else None
            context = RunContext(recipe, job.terminal, run, ensemble, models, shared)
            for group in concurrent_groups(
                plan_sessions(list(voters.values()), ensemble.swapped, ensemble.fit_questions), voters
            ):
                ask(context, group)
        return evaluate(job, run, ensemble, loaded, {name: _told(model) for name, model in models.items()})


@contextmanager
def _run(job: JobContext) -> Iterator[RunDir]:
    """The run directory, this job's alone."""
    configure()
    check_persistent_path(job.recipe.out)
    run = RunDir(job.recipe.out)
    job.terminal.say(f"Run directory {run.shown}")
    run.create()
    with _alone(run):
        yield run


def read_questions(recipe: Recipe, run: RunDir, job: JobContext) -> tuple[QuestionStream, list[Rejected]]:
    """Reads and cleans the questions, says what was found, and lays them beside those of an earlier issue."""
    held = holdout_ids(recipe)
    if recipe.questions.holdout and held is None:
        job.terminal.say(NO_HOLDOUT)
    loaded = dataset.load(recipe.questions, held)
    rejected: list[Rejected] = []
    chunk: list[Question] = []
    files = 0
    run.clear(_UNCHECKED)
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
    for line in describe(loaded):
        job.terminal.say(line)
    return loaded, rejected


def begin(recipe: Recipe, run: RunDir, rejected: list[Rejected]) -> None:
    """The run directory becomes this issue's: from here on the person has made no mistake that would stop it."""
    for name in ("report.json", "report.html"):  # they tell of an earlier issue
        run.clear(name)
    run.replace("questions", _UNCHECKED)
    run.write_table("rejected.parquet", to_table(rejected, Rejected))
    run.write("recipe.yaml", redact_credentials(recipe.as_yaml()).encode())


def describe(loaded: QuestionStream) -> list[str]:
    """What was read, in lines for the terminal."""
    rejected = f", {loaded.rejected:,} rejected (see rejected.parquet)" if loaded.rejected else ""
    head = f"{loaded.questions:,} questions from {loaded.settings.source}, {loaded.labelled:,} with an answer{rejected}"
    return [head, *(f"  {note}" for note in loaded.notes())]


def find_models(recipe: Recipe) -> dict[str, model_source.Model]:
    """The models that are asked, each proved to be there. Raises UserError."""
    models = {}
    for name, settings in recipe.models.items():
        if any(voter.pool == name for voter in recipe.asked.values()):
            check_engine_arguments(name, settings)
            models[name] = model_source.validate(settings.source, settings.revision, model_source.cache_folder())
    return models


def foreign_code(recipe: Recipe) -> list[str]:
    """What must not go unseen: models that bring Python code, and are allowed to run it."""
    return [
        f"WARNING: models.{name}.trust_remote_code: Python code that comes with {settings.source} runs on every node"
        for name, settings in recipe.models.items()
        if settings.trust_remote_code
    ]


def find_submissions(recipe: Recipe) -> dict[str, Submission]:
    """Other systems' answers, of every voter that is one. Raises UserError."""
    return {
        name: dataset.read_submission(voter.source, f"voters.{name}.source")
        for name, voter in recipe.voters.items()
        if isinstance(voter, SubmissionVoter)
    }


def tell_submissions(job: JobContext, run: RunDir, found: Mapping[str, Submission]) -> None:
    """Says how many answers other systems gave to these questions, and what was odd about them."""
    for name, told in found.items():
        voter = job.recipe.voters[name]
        assert isinstance(voter, SubmissionVoter)
        meant = sum(question.task_id in told.letters for question in stored_questions(run))
        job.terminal.say(
            f"{name}: {len(told.letters):,} answers from {voter.source}, {meant:,} of them to these questions"
        )
        for note, count in told.notes.most_common():
            job.terminal.say(f"  {count:,} x {note}")


def _told(model: model_source.Model) -> dict[str, Any]:
    return {"source": model.source, "parameters": model_source.parameters(model)}


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """One live run on one `out`: a file lock on a path, a name in the cluster for an address."""
    if run.is_local:
        with run.lock():
            yield
        return
    from codemmlu.cluster import locks

    with locks.lock(run):
        yield


def refuse_retrieve(recipe: Recipe) -> None:
    """Raises UserError where a voter has nothing to learn from."""
    for name, voter in recipe.voters.items():
        if isinstance(voter, RetrieveVoter):
            raise UserError(
                f"voters.{name}: every example is a question that is asked, so there is nothing to learn from; "
                "give other examples, or questions.holdout"
            )


def _store_chunk(run: RunDir, number: int, chunk: list[Question]) -> None:
    chunk.sort(key=lambda q: (-len(q.question) - sum(map(len, q.choices)), q.position))
    run.write_table(f"{_UNCHECKED}/{number:06d}.parquet", to_table(chunk, Question))
