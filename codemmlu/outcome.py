"""The outcome: stored answers to votes, verdicts, submission.csv, report.json and the table."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from codemmlu.answering.pending import stored_questions
from codemmlu.answering.schedule import Seat
from codemmlu.command import Job, Outcome
from codemmlu.questions import Loaded
from codemmlu.questions.swaps import SWAPPED, swapped
from codemmlu.recipe import DirectVoter
from codemmlu.report import summary
from codemmlu.report.submission import submission
from codemmlu.report.terminal import cost_table, leakage_lines, order_lines, voters_table
from codemmlu.rows import Answer, Question, Rejected, Verdict, Vote, to_table
from codemmlu.run_dir import RunDir
from codemmlu.scoring import Prior
from codemmlu.voting.rules import decide
from codemmlu.voting.views import Seen, calibration_answers, see, stored_answers, stored_threshold, view


def conclude(job: Job, run: RunDir, seats: dict[str, Seat], loaded: Loaded) -> Outcome:
    """Votes on what is stored and writes what people came for."""
    questions = sorted(stored_questions(run), key=lambda question: question.position)
    seen = see(run, seats, seats, questions)
    votes = {name: seen[name].votes for name in seats}
    answers = [(name, answer) for name in seats for answer in seen[name].answers.values()]
    voters = {name: _voter(run, seat, seen[name], questions) for name, seat in seats.items()}
    looked_up = [answer for _, answer in answers if answer.verbatim is not None]
    besides = [
        (name, answer)
        for name, seat in seats.items()
        if seat.calibration
        for answer in calibration_answers(run, seat.pool, seat.calibration)
        if answer.key not in seen[name].answers
    ]
    failed = {(voter, a.key): a for voter, a in (*answers, *besides) if a.status == "failed"}
    failures = [(a.task_id, voter, a.error or "") for (voter, _), a in failed.items()]
    verdicts, all_failed = _verdicts(job, questions, votes)
    lines, blanks = _submission(job, run, verdicts)
    report = {
        "questions": loaded.questions,
        "labelled": loaded.labelled,
        "rejected": loaded.rejected,
        "notes": loaded.notes(),
        "chance": summary.chance(questions),
        "letters_right": summary.letter_counts(question.answer for question in questions),
        "voters": voters,
        "asks": _asks(seats, seen),
        "vote": summary.vote_summary(job.recipe.vote.rule, questions, verdicts, all_failed),
        "comparisons": [],
        "order_sensitivity": _swaps(job, run, seats, seen, questions),
        "leakage": summary.leakage(questions, votes, looked_up),
        "submission": {"rows": lines, "blank": blanks},
        "failures": [{"task_id": t, "voter": v, "error": e} for t, v, e in failures[:1000]],
        "out": run.shown,
    }
    run.write_table("voters.parquet", to_table((vote for one in votes.values() for vote in one), Vote))
    run.write_table("verdicts.parquet", to_table(verdicts, Verdict))
    run.write("report.json", json.dumps(report, indent=1).encode())
    _show(job, run, report, len(failures))
    return Outcome(report, len(failures))


def _voter(run: RunDir, seat: Seat, seen: Seen, questions: list[Question]) -> dict[str, Any]:
    """One voter's numbers. What its calibration was estimated from is part of its cost, as if it stood alone."""
    extra = [] if seat.calibration is None else calibration_answers(run, seat.pool, seat.calibration)
    costs = {answer.key: answer for answer in (*seen.answers.values(), *extra)}
    numbers = summary.voter_summary(questions, seen.votes, list(seen.answers.values()), list(costs.values()))
    exits = summary.early_exit(seen.answers.values(), seat.ask.setting("readings")) if seat.exits_early else None
    threshold = None
    if seat.calibration and seat.fits_threshold:
        threshold = stored_threshold(run, seat.pool, seat.calibration)
    return numbers | {
        "reading_alone": _reading_alone(seat, seen, questions),
        "ask": seat.ask.name,
        "prior": _shares(seen.prior),
        "threshold": threshold,
        "early_exit": exits,
    }


def _reading_alone(seat: Seat, seen: Seen, questions: list[Question]) -> float | None:
    """What the one reading beside `sample`'s replies is worth by itself; None for other methods, and without labels."""
    if seat.ask.method != "sample":
        return None
    as_read = DirectVoter(model=seat.pool)
    answers = {key: replace(a, status="answered") if a.readings else a for key, a in seen.answers.items()}
    return summary.accuracy(questions, view(seat.name, as_read, seat.ask, questions, answers))


def _asks(seats: dict[str, Seat], seen: Mapping[str, Seen]) -> dict[str, Any]:
    """What each ask cost, however many voters look at it."""
    answers: dict[str, dict[str, Answer]] = {}
    for name, one in seen.items():
        answers.setdefault(seats[name].ask.name, {}).update(one.answers)
    return {ask: summary.cost(list(its.values())) for ask, its in answers.items()}


def _swaps(job: Job, run: RunDir, seats: dict[str, Seat], seen: Mapping[str, Seen], questions: list[Question]) -> Any:
    """Order sensitivity of the voters it is measured for; None where it is not."""
    measured = {}
    for name in job.recipe.report.order_sensitivity:
        seat, prior = seats[name], seen[name].prior
        by_letter = {}
        for to in SWAPPED:
            moved = [one for question in questions if (one := swapped(question, to))]
            answers = stored_answers(run, seat.pool, {seat.ask.key(question) for question in moved})
            by_letter[to] = (moved, view(name, seat.settings, seat.ask, moved, answers, prior))
        measured[name] = summary.order_sensitivity(by_letter)
    return measured or None


def _shares(prior: Prior | None) -> dict[str, list[float]] | None:
    """A prior for people: number of choices to the share of each letter."""
    return None if prior is None else {str(size): [math.exp(x) for x in logs] for size, logs in prior.items()}


def _verdicts(job: Job, questions: list[Question], votes: dict[str, list[Vote]]) -> tuple[list[Verdict], set[str]]:
    verdicts, all_failed = [], set()
    for question, *row in zip(questions, *votes.values(), strict=True):
        verdicts.append(decide(job.recipe.vote.rule, question, row))
        if all(vote.status == "failed" for vote in row):
            all_failed.add(question.task_id)
    return verdicts, all_failed


def _submission(job: Job, run: RunDir, verdicts: list[Verdict]) -> tuple[int, int]:
    rejected = [Rejected(**row) for row in run.read_table("rejected.parquet").to_pylist()]
    text, blanks = submission(verdicts, rejected, job.recipe.submission.blank)
    run.write("submission.csv", text.encode())
    named = sum(row.task_id is not None for row in rejected)
    return len(verdicts) + named, blanks


def _show(job: Job, run: RunDir, report: dict[str, Any], failed: int) -> None:
    say = job.terminal.say
    say("")
    job.terminal.show(voters_table(report))
    say("")
    if len(report["voters"]) > 1:
        job.terminal.show(cost_table(report))
        say("")
    for line in (*order_lines(report), *leakage_lines(report)):
        say(line)
    if failed:
        say(f"{failed:,} answers failed:")
        for failure in report["failures"][:10]:
            say(f"  {failure['task_id']} ({failure['voter']}): {failure['error']}")
        if failed > 10:
            say(f"  and {failed - 10:,} more, in report.json under failures")
    blanks = report["submission"]["blank"]
    without = f", {blanks:,} of them without an answer" if blanks else ""
    say(f"{run.shown}/submission.csv has {report['submission']['rows']:,} rows{without}; report.json is beside it.")
    if failed:
        say(f"To ask the failed ones again: {job.again}")
    elif job.recipe.questions.source == "sample":
        say("Your own questions: python jobs/run.py recipes/demo.yaml questions.source=FILE.csv out=runs/mine")
    elif job.recipe.models:
        model = next(iter(job.recipe.models))
        say(f"Another model on the same questions: {job.again} models.{model}.source=MODEL out=DIRECTORY")
    else:
        say("A language model with these examples in its prompt: python jobs/run.py recipes/examples.yaml")
