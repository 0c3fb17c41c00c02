"""The steps of a run: one function per job, from the job's context to the job's outcome.

examples -> [Ray Data: embed | shards] -> index/
examples -> training set -> [Ray Train: workers] -> adapters/
questions -> questions/ -> pending/ -> [Ray Data: read | retrieve | answer | keep] -> answers/ -> votes -> outcome
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial

from codemmlu.cli.adapters import check_adapters, other_bases
from codemmlu.cli.console import Terminal
from codemmlu.cli.inputs import describe_submissions, find_models, find_submissions, foreign_code, refuse_overwritten
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.leak import tell_leak
from codemmlu.cli.tables import comparison_table, voters_table
from codemmlu.cluster.environment import configure
from codemmlu.dataset import QuestionSet, Submission, read_sample
from codemmlu.dataset.kind import KindRules
from codemmlu.dataset.stored import StoredQuestions
from codemmlu.engine import model_source
from codemmlu.engine.adapter_store import Manifest as AdapterManifest
from codemmlu.errors import UserError, redact_credentials
from codemmlu.inference import damage
from codemmlu.inference.stages import concurrent_groups, plan_sessions
from codemmlu.inference.voters import Ensemble, resolve_voters, write_pilot
from codemmlu.recipe import FinetuneSettings, Recipe, RetrieveVoter, adapter_names, uses_examples
from codemmlu.report.schema import ModelReport
from codemmlu.retrieval.index import ExampleIndex, ensure_index, share
from codemmlu.run_dir import ATTEMPT, RunDir, check_persistent_path
from codemmlu.run_dir.ownership import check_ours, claim, remove_leftovers
from codemmlu.schema import Rejected, to_table
from codemmlu.voting.fit_split import FITTED
from codemmlu.voting.reduction import VERDICTS, VOTES

# What a run leaves at its end.
OUTPUTS = ("report.json", "report.html", "submission.csv", VOTES, VERDICTS, FITTED)
NO_HOLDOUT = "questions.holdout is ignored: questions.source and examples.source are not the same"


def run(job: JobContext) -> Outcome:
    """Do everything that a recipe asks for; each step skips what is done."""
    with _run_directory(job) as run:
        inputs = read_inputs(job, run)
        if job.recipe.finetune:
            _finetuned(job, run, inputs.questions)
        return _answered(job, run, inputs, ask_models=True)


def finetune(job: JobContext) -> Outcome:
    """Train the adapter of the recipe's `finetune`, unless the adapter is trained already."""
    settings = finetune_settings(job.recipe)
    with _run_directory(job) as run:
        questions = QuestionSet(job.recipe)
        tell_leak(job, questions)
        manifest = _finetuned(job, run, questions)
    used = any(settings.name in adapter_names(voter) for voter in job.recipe.asked.values())
    job.terminal.say(
        f"To answer with it: {job.command('run')}"
        if used
        else f"No voter answers with it yet: voters.NAME.adapter={settings.name}"
    )
    return Outcome(manifest.model_dump(mode="json"), 0)


def _finetuned(job: JobContext, run: RunDir, questions: QuestionSet) -> AdapterManifest:
    """Train the adapter, unless it is trained already, and return the adapter's manifest."""
    from codemmlu.training.adapter_training import ensure_adapter  # This import is slow.

    recipe, settings = job.recipe, finetune_settings(job.recipe)
    check_adapters(recipe, settings.name)  # A missing adapter is better known before hours of training.
    return ensure_adapter(recipe, job.terminal, run, questions)


def index(job: JobContext) -> Outcome:
    """Make the index of solved examples, unless the index is there already."""
    refuse_without_examples(job.recipe)
    with _run_directory(job):
        index = ensure_index(job.recipe, job.terminal, QuestionSet(job.recipe), labelled=True)
    report = index.manifest.model_dump(exclude={"shards", "weights"}) | {"index": index.index.shown}
    job.terminal.say(f"To answer with it: {job.command('run')}")
    return Outcome(report, 0)


def answer(job: JobContext) -> Outcome:
    """Infer the answers that are not stored yet, then vote and report."""
    with _run_directory(job) as run:
        return _answered(job, run, read_inputs(job, run), ask_models=True)


def vote(job: JobContext) -> Outcome:
    """Vote on the stored answers and report, without inference."""
    with _run_directory(job) as run:
        return _answered(job, run, read_inputs(job, run), ask_models=False)


def compare(terminal: Terminal, runs: list[str]) -> Outcome:
    """Compare runs on the same questions; for a single run, show the voters of the run."""
    from codemmlu.report import comparison  # This import loads the statistics, which other jobs need only at their end.

    if len(runs) == 1:
        report = comparison.read_report(runs[0])
        terminal.show(voters_table(report))
        return Outcome(report.model_dump(mode="json", exclude_unset=True), 0)
    compared = comparison.compare(runs)
    if not compared.comparisons:
        terminal.say("No voter of one run has the name of another's, so there is nothing to compare.")
    else:
        terminal.show(comparison_table(compared))
        if not compared.labelled:
            terminal.say("No question has an answer, so only the share of equal letters is shown.")
    return Outcome(compared.model_dump(mode="json"), 0)


def finetune_settings(recipe: Recipe) -> FinetuneSettings:
    """Return the section `finetune` of a recipe.

    Raises:
        UserError: The recipe has no such section.
    """
    if recipe.finetune is None:
        raise UserError("the recipe has no such section; see recipes/finetune-smol.yaml", key="finetune")
    return recipe.finetune


def refuse_without_examples(recipe: Recipe) -> None:
    """Refuse to make an index where the recipe names no examples.source."""
    if recipe.examples.source is None:
        raise UserError("the recipe names no examples to make an index of", key="examples.source")


@dataclass(frozen=True)
class Inputs:
    """The inputs of a run.

    Attributes:
        models: The models that are asked, by name.
        submissions: Other systems' answers, by voter.
        questions: The questions and the examples.
        stored: The questions in the run directory.
    """

    models: dict[str, model_source.Model]
    submissions: dict[str, Submission]
    questions: QuestionSet
    stored: StoredQuestions


def read_inputs(job: JobContext, run: RunDir) -> Inputs:
    """Check that models and submissions are there, and read the questions into the staging folder."""
    run.write(ATTEMPT, uuid.uuid4().hex.encode())  # From here on no block of an earlier attempt is kept.
    models, submissions = find_models(job.recipe), find_submissions(job.recipe)
    if job.recipe.submission.sample:  # A sample that cannot be read shows now, and not after hours of inference.
        read_sample(job.recipe.submission.sample, "submission.sample")
    stored = StoredQuestions(run)
    questions = QuestionSet(job.recipe, stored)
    for line in (*describe(job.recipe, questions), *foreign_code(job.recipe)):
        job.terminal.say(line)
    tell_leak(job, questions)
    return Inputs(models, submissions, questions, stored)


def _answered(job: JobContext, run: RunDir, inputs: Inputs, *, ask_models: bool) -> Outcome:
    """Do everything that a run does after training: infer answers, vote and report."""
    from codemmlu.cli.outcome import evaluate
    from codemmlu.inference.driver import RunContext, ask, refuse_low_mass  # slow; a dry run does without

    index = _index(job, inputs.questions)
    damage.set_aside(run, sorted({voter.pool for voter in job.recipe.asked.values()}), job.terminal)
    ensemble = _ensemble(job.recipe, run, inputs, index)
    for line in other_bases(ensemble, inputs.models):
        job.terminal.say(line)
    begin(job.recipe, run, inputs)
    write_pilot(run, ensemble.voters)
    for line in describe_submissions(job.recipe, run, inputs.submissions):
        job.terminal.say(line)
    shared = cache(partial(share, index)) if index else None
    context = RunContext(job.recipe, job.terminal, run, ensemble, inputs.models, shared)
    if ask_models:
        sessions = plan_sessions(list(ensemble.voters.values()), ensemble.swapped, ensemble.fit_questions)
        for group in concurrent_groups(sessions, ensemble.voters):
            ask(context, group)
    refuse_low_mass(context, () if ask_models else inputs.models)
    facts = {name: _facts(model) for name, model in inputs.models.items()}
    return evaluate(job, run, ensemble, inputs.questions.stream, facts)


def _index(job: JobContext, questions: QuestionSet) -> ExampleIndex | None:
    """Return the index of solved examples; None where no voter looks at examples."""
    recipe = job.recipe
    if not any(uses_examples(voter) for voter in recipe.voters.values()):
        return None
    labelled = questions.stream.labelled > 0 or recipe.vote.fit is not None
    index = ensure_index(recipe, job.terminal, questions, labelled)
    if index.manifest.weights is None:
        refuse_retrieve(recipe)
    return index


def _ensemble(recipe: Recipe, run: RunDir, inputs: Inputs, index: ExampleIndex | None) -> Ensemble:
    """Resolve the voters, and refuse to evaluate weights on their own training questions."""
    from codemmlu.training.adapter_training import check_no_train_overlap  # This import is slow.

    questions = inputs.questions
    fit = questions.fit_examples
    retrieval_key = index.retrieval_key if index else None
    voters = resolve_voters(recipe, inputs.models, retrieval_key, run, questions)
    check_no_train_overlap(recipe, voters, questions)
    most_choices = max([questions.stream.most_choices, *(len(question.choices) for question in fit)])
    letters = {name: submission.letters for name, submission in inputs.submissions.items()}
    kinds = KindRules(tuple(recipe.questions.kinds.items()))
    return Ensemble(voters, letters, fit, most_choices, recipe.report.order_sensitivity, kinds)


@contextmanager
def _run_directory(job: JobContext) -> Iterator[RunDir]:
    """Hold the run directory for this job alone."""
    configure()
    check_persistent_path(job.recipe.out)
    run = RunDir(job.recipe.out)
    job.terminal.say(f"Run directory {run.shown}")
    check_ours(run)
    run.create()
    with _alone(run):
        claim(run)
        refuse_overwritten(job.recipe, run)
        if left := remove_leftovers(run):
            job.terminal.say(f"{left:,} temporary files that killed jobs had left in {run.shown} are removed")
        yield run


def begin(recipe: Recipe, run: RunDir, inputs: Inputs) -> None:
    """Put this attempt's questions into the run directory, once the recipe is validated."""
    for name in OUTPUTS:  # These are of an earlier attempt, and perhaps of another recipe.
        run.clear(name)
    inputs.stored.publish()
    run.write_table("rejected.parquet", to_table(inputs.questions.rejected, Rejected))
    run.write("recipe.yaml", redact_credentials(recipe.as_yaml()).encode())


def describe(recipe: Recipe, questions: QuestionSet) -> list[str]:
    """Return lines on the questions that were read."""
    stream = questions.stream
    ignored = [NO_HOLDOUT] if recipe.questions.holdout and questions.holdout is None else []
    rejected = f", {stream.rejected:,} rejected (see rejected.parquet)" if stream.rejected else ""
    head = f"{stream.questions:,} questions from {stream.settings.source}, {stream.labelled:,} with an answer{rejected}"
    return [*ignored, head, *(f"  {note}" for note in stream.notes())]


def _facts(model: model_source.Model) -> ModelReport:
    return ModelReport(source=model.source, parameters=model_source.parameters(model))


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Allow one live run on one `out`: a path has a file lock, an address has a name in the cluster."""
    if run.is_local:
        with run.lock():
            yield
        return
    from codemmlu.cluster import locks

    with locks.lock(run):
        yield


def refuse_retrieve(recipe: Recipe) -> None:
    """Refuse voters that answer from examples where no example is left for fitting the transfer.

    Raises:
        UserError: The recipe has such a voter.
    """
    for name, voter in recipe.voters.items():
        if isinstance(voter, RetrieveVoter):
            raise UserError(
                "every example is a question that is asked, so there is nothing to learn from; "
                "give other examples, or questions.holdout",
                key=f"voters.{name}",
            )
