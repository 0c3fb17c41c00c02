"""The outcome: stored answers to votes, verdicts, submission.csv, report.json and the table."""

import json
from typing import Any

from codemmlu.answering.asks import Ask
from codemmlu.answering.pending import stored_questions
from codemmlu.command import Job, Outcome
from codemmlu.questions import Loaded
from codemmlu.report import summary
from codemmlu.report.submission import submission
from codemmlu.report.terminal import leakage_lines, voters_table
from codemmlu.rows import Question, Rejected, Verdict, Vote, to_table
from codemmlu.run_dir import RunDir
from codemmlu.voting.rules import decide
from codemmlu.voting.views import stored_answers, view


def conclude(job: Job, run: RunDir, asks: dict[str, tuple[str, Ask]], loaded: Loaded) -> Outcome:
    """Votes on what is stored and writes what people came for. `asks`: voter to its pool and ask."""
    questions = sorted(stored_questions(run), key=lambda question: question.position)
    voters, votes, failures, looked_up = {}, {}, [], []
    for voter, settings in job.recipe.voters.items():
        pool, ask = asks[voter]
        answers = stored_answers(run, pool, {ask.key(question) for question in questions})
        votes[voter] = view(voter, settings, ask, questions, answers)
        voters[voter] = summary.voter_summary(questions, votes[voter], list(answers.values())) | {"ask": ask.name}
        looked_up += [answer for answer in answers.values() if answer.verbatim is not None]
        failures += [(a.task_id, voter, a.error or "") for a in answers.values() if a.status == "failed"]
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
        "vote": summary.vote_summary(job.recipe.vote.rule, questions, verdicts, all_failed),
        "comparisons": [],
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
    for line in leakage_lines(report):
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
