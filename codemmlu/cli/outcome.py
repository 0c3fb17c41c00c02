"""The outcome: stored answers to votes, what the vote learns, verdicts, submission.csv, report.json and the tables."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from codemmlu.cli.job import JobContext, Outcome
from codemmlu.cli.tables import cost_table, leakage_lines, order_lines, rules_table, voters_table, weights_table
from codemmlu.dataset import Loaded
from codemmlu.dataset.stored import stored_questions
from codemmlu.engine import lora
from codemmlu.engine.adapter_store import read_manifest
from codemmlu.inference.calibration import calibration_answers, stored_threshold
from codemmlu.inference.voters import Panel
from codemmlu.inference.votes import see_stored, submitted_on_fit
from codemmlu.mcq import Prior
from codemmlu.recipe import adapter_name, uses_examples
from codemmlu.report import statistics, summary
from codemmlu.report.figures import stored_figures
from codemmlu.report.page import page
from codemmlu.report.question_list import details, prompts
from codemmlu.report.score_table import Sheet, letter_counts, sheet
from codemmlu.report.submission import submission
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Rejected, Vote, letters, to_table
from codemmlu.voting import dawid_skene, fitting, reduction
from codemmlu.voting.aggregation import MOST_FAILURES, added, cost_sums
from codemmlu.voting.ballots import FAILED, ballots
from codemmlu.voting.model import Fitted

# Questions that agreement is estimated from: with many voters its time and memory grow with them.
_AGREEMENT = 100_000
# What the vote has learnt, for people and for the next run.
FITTED = "fitted/vote.json"


@dataclass(frozen=True)
class _Learnt:
    """What was asked besides the questions, and what came of it. besides: by voter, for its calibration."""

    fitted: Fitted
    asked_for_fit: list[Answer]
    besides: dict[str, list[Answer]]


def conclude(job: JobContext, run: RunDir, panel: Panel, loaded: Loaded, models: Mapping[str, Any]) -> Outcome:
    """Votes on what is stored and writes what people came for. models: what report.json says of each model."""
    partitions = _partitions(run, panel, reduction.parts(loaded.questions, job.recipe.vote.part))
    reduced = reduction.votes(run, panel, partitions)
    learnt = _learn(job, run, panel, reduced)
    rule = job.recipe.vote.rule
    scores = sheet(reduced.columns, reduction.verdicts(run, rule, learnt.fitted, partitions), rule)
    report, failed = _report(job, run, panel, loaded, reduced, learnt, scores)
    report["models"] = dict(models)
    run.write("report.json", json.dumps(report, indent=1).encode())
    run.write("report.html", _page(run, panel, report).encode())
    _show(job, run, report, failed, _missing(scores, reduced))
    return Outcome(report, failed)


def _partitions(run: RunDir, panel: Panel, count: int) -> reduction.Partitions:
    """Hold all questions in this process where they make one part, and in Ray's object store otherwise."""
    pools = sorted({seat.pool for seat in panel.seats.values()})
    if count == 1:
        return reduction.OnePartition(run, pools)
    from codemmlu.voting.ray_partitions import RayPartitions  # loads Ray, which a vote in one part does without

    return RayPartitions(run, pools, count)


def _learn(job: JobContext, run: RunDir, panel: Panel, reduced: reduction.Reduced) -> _Learnt:
    """Weights, temperatures and thresholds: from the fit split where there is one, else from agreement alone."""
    settings = job.recipe.vote
    names = sorted([*panel.seats, *panel.submissions])
    said = np.column_stack([reduced.columns[f"letter/{name}"].to_numpy() for name in names]).astype(np.int64)
    sizes = reduced.columns["choices"].to_numpy().astype(np.int64)
    some = slice(None, None, max(1, len(said) // _AGREEMENT))
    agreed = dawid_skene.skills(names, said[some], sizes[some])
    order = (*(settings.order or ()), *(n for n in job.recipe.voters if n not in (settings.order or ())))
    besides = {
        name: calibration_answers(run, seat.pool, seat.calibration)
        for name, seat in panel.seats.items()
        if seat.calibration
    }
    if not panel.weighed:
        fitted = Fitted(agreed=agreed, order=order)
        if settings.margin is not None:
            fitted = fitted.model_copy(update={"margin": settings.margin})
        asked: list[Answer] = []
    else:
        seen = see_stored(run, panel.seats, panel.seats, panel.weighed)
        votes: list[Vote] = [vote for one in seen.values() for vote in one.votes]
        names_asked = frozenset(q.task_id for q in stored_questions(run)) if panel.submissions else frozenset()
        for name, its in panel.submissions.items():
            votes += submitted_on_fit(name, panel.weighed, its, names_asked)
        looks = frozenset(name for name, voter in job.recipe.voters.items() if uses_examples(voter))
        fitted = fitting.fit(*_solved(panel, votes), looks, order, agreed, settings.margin)
        unasked = sum(vote.status == "failed" for vote in votes) - sum(
            answer.status == "failed" for one in seen.values() for answer in one.answers.values()
        )
        if unasked > 0:
            job.terminal.say(
                f"vote.fit: {unasked:,} answers to {len(panel.weighed):,} examples are missing, as jobs/run.py has not "
                "asked them; what is fitted knows nothing of these"
            )
        asked = list({answer.key: answer for one in seen.values() for answer in one.answers.values()}.values())
    run.write(FITTED, fitted.model_dump_json(indent=1).encode())
    return _Learnt(fitted, asked, besides)


def _solved(panel: Panel, votes: list[Vote]) -> tuple[Any, list[int]]:
    """The fit split's ballots, and its right choices in their order."""
    some = ballots(_numbered(panel, votes))
    names = letters(26)
    right = {question.task_id: names.index(question.answer or "") for question in panel.weighed}
    return some, [right[task_id] for task_id in some.task_ids]


def _numbered(panel: Panel, votes: list[Vote]) -> pa.Table:
    """Votes on the fit split, whose positions are those of its rows: they come from another file."""
    table = to_table(votes, Vote)
    place = {question.task_id: number for number, question in enumerate(panel.weighed)}
    numbers = pa.array([place[str(name)] for name in table["task_id"].to_pylist()], pa.int64())
    return table.set_column(table.schema.get_field_index("position"), "position", numbers)


def _report(
    job: JobContext,
    run: RunDir,
    panel: Panel,
    loaded: Loaded,
    reduced: reduction.Reduced,
    learnt: _Learnt,
    scores: Sheet,
) -> tuple[dict[str, Any], int]:
    """report.json, and how many answers failed."""
    rule, sums = job.recipe.vote.rule, reduced.sums
    pairs, ranks = summary.comparisons(scores, rule)
    voters = {}
    for name in job.recipe.voters:
        costs = [sums["voters"].get(name) or cost_sums(()), cost_sums(learnt.besides.get(name, ()))]
        # What its calibration was estimated from is part of its cost, as if it stood alone.
        voters[name] = (
            summary.voter(scores, name, added(costs)) | {"rank": ranks[name]} | _seat(run, panel, name, reduced)
        )
    also = [(name, answer) for name, its in learnt.besides.items() for answer in its]
    also += [("vote.fit", answer) for answer in learnt.asked_for_fit]
    broken = {
        answer.key: {"task_id": answer.task_id, "voter": name, "error": answer.error or ""}
        for name, answer in also
        if answer.status == "failed"
    }
    lines, blanks = _submission(job, run)
    return {
        "questions": loaded.questions,
        "labelled": loaded.labelled,
        "rejected": loaded.rejected,
        "notes": loaded.notes(),
        "chance": summary.chance(scores),
        "letters_right": letter_counts(scores.right),
        "voters": voters,
        "asks": {ask: summary.cost(told) for ask, told in sums["asks"].items()},
        "vote": summary.vote(scores, rule) | {"rank": ranks.get(summary.VOTE)},
        "rules": summary.rules(scores, learnt.fitted),
        "fitted": {
            "questions": learnt.fitted.fitted_on,
            "margin": learnt.fitted.margin,
            "voters": summary.weights(learnt.fitted, list(job.recipe.voters)),
            **summary.cost(cost_sums(learnt.asked_for_fit)),
        },
        "comparisons": pairs,
        "agreement": statistics.agreement(scores),
        "slices": statistics.slices(scores, rule),
        "hindsight": statistics.hindsight(scores),
        "order_sensitivity": summary.order_sensitivity(sums["swaps"]),
        "leakage": summary.leakage(scores),
        "training": _training(job, run),
        "submission": {"rows": lines, "blank": blanks},
        "failures": [*sums["failures"], *broken.values()][:MOST_FAILURES],
        "out": run.shown,
    }, sums["failed"] + sums["swaps_failed"] + len(broken)


def _training(job: JobContext, run: RunDir) -> dict[str, Any] | None:
    """The curves of the weights that the recipe trains, and what they were learnt from; None where there are none."""
    settings = job.recipe.finetune
    manifest = read_manifest(run, settings.name) if settings else None
    if manifest is None or not any(adapter_name(v) == manifest.name for v in job.recipe.asked.values()):
        return None
    shown = {"name", "backend", "device", "train_examples", "steps", "best_step", "train", "tune"}
    return manifest.model_dump(mode="json", include=shown)


def _seat(run: RunDir, panel: Panel, name: str, reduced: reduction.Reduced) -> dict[str, Any]:
    """What stands behind a voter: its ask and model, and what was estimated for it."""
    seat = panel.seats.get(name)
    if seat is None:
        return {"ask": None, "model": None, "adapter": None, "prior": None, "threshold": None, "early_exit": None}
    threshold = None
    if seat.calibration and seat.fits_threshold:
        threshold = stored_threshold(run, seat.pool, seat.calibration)
    return {
        "ask": seat.ask.name,
        "model": seat.pool,
        "adapter": lora.inspect(seat.ask.adapter, "adapter").fingerprint if seat.ask.adapter else None,
        "prior": _shares(reduced.priors[name]),
        "threshold": threshold,
        "early_exit": reduced.sums["early_exit"].get(name),
    }


def _shares(prior: Prior | None) -> dict[str, list[float]] | None:
    """A prior for people: number of choices to the share of each letter."""
    return None if prior is None else {str(size): [math.exp(x) for x in logs] for size, logs in prior.items()}


def _page(run: RunDir, panel: Panel, report: dict[str, Any]) -> str:
    votes = reduction.stored(run, reduction.VOTES)
    listed = details(run, panel, list(report["voters"]), reduction.in_order(run), votes)
    first = next(stored_questions(run))
    drawn = stored_figures(run, report)
    return page(report, drawn, listed, prompts(panel, first), run.read("recipe.yaml").decode())


def _missing(scores: Sheet, reduced: reduction.Reduced) -> int:
    """Answers that nobody has given yet: they count as failed, and a vote without asking says so."""
    failed = sum(int((column.status == FAILED).sum()) for column in scores.voters.values())
    return max(0, failed - int(reduced.sums["failed"]))


def _submission(job: JobContext, run: RunDir) -> tuple[int, int]:
    rows = [Rejected(**row) for row in run.read_table("rejected.parquet").to_pylist()]
    rejected = sorted(rows, key=lambda row: row.position)
    text, lines, blanks = submission(reduction.in_order(run), rejected, job.recipe.submission.blank)
    run.write("submission.csv", text.encode())
    return lines, blanks


def _show(job: JobContext, run: RunDir, report: dict[str, Any], failed: int, missing: int) -> None:
    say, show = job.terminal.say, job.terminal.show
    again = job.command("run" if job.name == "vote" else None)  # a vote asks nothing that is missing
    tables = [voters_table(report)]
    if len(report["voters"]) > 1:
        tables += [cost_table(report), weights_table(report), rules_table(report)]
    for table in tables:
        if table.row_count:
            say("")
            show(table)
    say("")
    for line in (*order_lines(report), *leakage_lines(report)):
        say(line)
    if failed:
        say(f"{failed:,} answers failed:")
        for failure in report["failures"][:10]:
            say(f"  {failure['task_id']} ({failure['voter']}): {failure['error']}")
        if failed > 10:
            say(f"  and {failed - 10:,} more, in report.json under failures")
    if missing:
        say(f"{missing:,} answers are missing and count as failed: these questions were never asked. To ask: {again}")
    say(summary.headline(report))
    blanks = report["submission"]["blank"]
    without = f", {blanks:,} of them without an answer" if blanks else ""
    rows = report["submission"]["rows"]
    say(f"{run.shown}/submission.csv has {rows:,} rows{without}; report.html and report.json are beside it.")
    if failed:
        say(f"To ask the failed ones again: {again}")
    elif job.recipe.questions.source == "sample":
        say("Your own questions: python jobs/run.py recipes/demo.yaml questions.source=FILE.csv out=runs/mine")
    elif job.recipe.models:
        model = next(iter(job.recipe.models))
        say(f"Another model on the same questions: {again} models.{model}.source=MODEL out=DIRECTORY")
    else:
        say("A language model with these examples in its prompt: python jobs/run.py recipes/examples.yaml")
