"""The outcome of stored answers: what is missing, failed and wrong in report.json, and what is said of it."""

import io
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.cli import outcome
from codemmlu.cli.console import Terminal
from codemmlu.cli.job import JobContext, Outcome
from codemmlu.dataset import QuestionStream
from codemmlu.dataset.examples import FIT
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import Ensemble, ResolvedVoter
from codemmlu.recipe import DirectVoter, Recipe
from codemmlu.report.schema import ModelReport
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, Rejected, to_table
from tests.support.questions import append_csv, questions_csv
from tests.support.rows import ASK, answer, failed, question, reading

OTHER = replace(ASK, template="reference")
ONE = {"v": ASK}
CHOICES = ("one", "two", "three", "four")


def says(letter: str, of: Question, ask: InferenceSpec = ASK) -> Answer:
    """An answer that gives one letter nine tenths."""
    logprobs = [-0.1 if name == letter else -3.4 for name in "ABCD"]
    return answer(of, ask, letter=letter, readings=(reading(logprobs),))


def fails(of: Question, ask: InferenceSpec = ASK) -> Answer:
    return failed(of, ask, error="the engine died")


@dataclass
class Stored:
    """A run directory with questions whose right answer is A, and a way to conclude on the answers in it."""

    run: RunDir
    recipe: Recipe
    questions: list[Question]
    ensemble: Ensemble

    def evaluate(self, *answers: Iterable[Answer]) -> tuple[Outcome, str]:
        """Return the outcome of these answers, and what was printed."""
        rows = [answer for some in answers for answer in some]
        self.run.write_table("answers/m/000000.parquet", to_table(rows, Answer))
        loaded = QuestionStream(self.recipe.questions)
        list(loaded.rows())
        out = io.StringIO()
        with redirect_stdout(out):
            job = JobContext("vote", ("recipe.yaml",), self.recipe, Terminal())
            result = outcome.evaluate(job, self.run, self.ensemble, loaded, {"m": ModelReport(source="scripted")})
        return result, out.getvalue()


@pytest.fixture
def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stored]:
    """Makes a run of so many questions, whose voters are named with their asks; its page has no figures."""
    monkeypatch.setattr(outcome, "stored_figures", lambda *_: [])

    def make(n: int, voters: dict[str, InferenceSpec] = ONE, **fields: Any) -> Stored:
        source = questions_csv(tmp_path / "questions.csv", n, choices=CHOICES)
        append_csv(source, ("short", "One choice?", ["x"], "A"))
        settings = {
            "out": str(tmp_path / "run"),
            "questions": {"source": str(source)},
            "models": {"m": {"source": "scripted"}},
            "voters": {name: {"model": "m", "template": ask.template} for name, ask in voters.items()},
            **fields,
        }
        recipe = Recipe.model_validate(settings)
        rows = list(QuestionStream(recipe.questions).rows())
        questions = [row for row in rows if isinstance(row, Question)]
        run = RunDir(recipe.out)
        run.create()
        run.write_table("questions/000000.parquet", to_table(questions, Question))
        run.write_table("rejected.parquet", to_table([row for row in rows if isinstance(row, Rejected)], Rejected))
        run.write("recipe.yaml", recipe.as_yaml().encode())
        resolved = {
            name: ResolvedVoter(name, voter, "m", voters[name])
            for name, voter in recipe.voters.items()
            if isinstance(voter, DirectVoter)
        }
        return Stored(run, recipe, questions, Ensemble(resolved, {}, (), len(CHOICES)))

    return make


def test_missing_and_failed_answers_are_told_apart(stored: Callable[..., Stored]) -> None:
    run = stored(5)
    right, wrong, broken, *_ = run.questions  # the last two were never asked
    result, out = run.evaluate([says("A", right), says("B", wrong), fails(broken)])
    voter = result.report["voters"]["v"]
    assert (voter["answered"], voter["failed"]) == (2, 3)
    assert (voter["asked"], voter["accuracy"]) == (2, 1 / 2)
    # What failed decides the exit code and is listed; what is missing is only said.
    assert result.failed == 1
    assert result.report["failures"] == [{"task_id": "q2", "voter": "v", "error": "the engine died"}]
    assert "1 answers failed:" in out
    assert "2 answers are missing and count as failed" in out
    assert "To ask the failed ones again: python jobs/run.py recipe.yaml" in out


def test_nothing_is_said_of_failures_where_all_is_well(stored: Callable[..., Stored]) -> None:
    run = stored(2)
    result, out = run.evaluate([says("A", one) for one in run.questions])
    assert (result.failed, result.report["failures"]) == (0, [])
    assert "failed" not in out.replace("abstained  failed", "")
    assert "missing" not in out


def test_the_vote_leaves_out_what_every_voter_failed_on(stored: Callable[..., Stored]) -> None:
    run = stored(4, {"v": ASK, "w": OTHER})
    a, b, c, d = run.questions
    result, _ = run.evaluate(
        [says("A", a), says("B", b), fails(c), fails(d)], [says("A", a, OTHER), fails(b, OTHER), fails(c, OTHER)]
    )
    vote, voters = result.report["vote"], result.report["voters"]
    assert (vote["asked"], vote["answered"], vote["accuracy"]) == (2, 2, 1 / 2)
    assert (voters["v"]["asked"], voters["w"]["asked"]) == (2, 1)
    assert (voters["v"]["accuracy"], voters["w"]["accuracy"]) == (1 / 2, 1.0)
    assert result.report["rules"]["majority"]["asked"] == 2
    (pair, *_) = result.report["comparisons"]
    assert (pair["first"], pair["second"], pair["asked"]) == ("v", "w", 1)
    assert result.failed == 4


def test_the_report_counts_questions_and_blanks(stored: Callable[..., Stored]) -> None:
    run = stored(3, submission={"blank": "E"})
    result, out = run.evaluate([says("A", run.questions[0]), says("C", run.questions[1])])
    report = result.report
    assert (report["questions"], report["labelled"], report["rejected"]) == (3, 3, 1)
    assert (report["chance"], report["letters_right"]) == (1 / 4, {"A": 3})
    assert report["submission"] == {"rows": 4, "blank": 2}
    assert run.run.read("submission.csv").decode() == "task_id,answer\nq0,A\nq1,C\nq2,E\nshort,E\n"
    assert "submission.csv has 4 rows, 2 of them without an answer" in out
    assert (report["training"], report["leakage"], report["order_sensitivity"]) == (None, None, None)
    assert report["models"] == {"m": {"source": "scripted", "parameters": None}}


def test_an_answer_that_two_voters_share_is_paid_once_by_ask(stored: Callable[..., Stored]) -> None:
    run = stored(2, {"v": ASK, "w": ASK})
    result, _ = run.evaluate([says("A", one) for one in run.questions])
    costs = {name: voter["prompt_tokens"] for name, voter in result.report["voters"].items()}
    assert costs == {"v": 20, "w": 20}  # as if each stood alone
    assert {name: ask["prompt_tokens"] for name, ask in result.report["asks"].items()} == {ASK.name: 20}


def test_a_voter_is_told_with_its_ask_and_model(stored: Callable[..., Stored]) -> None:
    run = stored(1)
    result, _ = run.evaluate([says("A", run.questions[0])])
    voter = result.report["voters"]["v"]
    nothing = dict.fromkeys(("adapter", "prior", "threshold", "early_exit"))
    assert {name: voter[name] for name in ("ask", "model", *nothing)} == {"ask": ASK.name, "model": "m", **nothing}


def test_answers_missing_from_the_fit_are_said(stored: Callable[..., Stored], tmp_path: Path) -> None:
    run = stored(
        20, {"v": ASK, "w": OTHER}, examples={"source": str(tmp_path / "solved.csv")}, vote={"fit": {"limit": 8}}
    )
    solved = tuple(question(f"{FIT}e{i}", question=f"#e{i}?", answer="A") for i in range(8))
    run.ensemble = replace(run.ensemble, fit=solved)
    asked = [says("A", one, ask) for one in run.questions for ask in (ASK, OTHER)]
    known = [says("A", one) for one in solved] + [says("B", one, OTHER) for one in solved[:5]]
    result, out = run.evaluate(asked, known, [fails(solved[5], OTHER)])
    assert "vote.fit: 2 answers to 8 examples are missing" in out
    fitted = result.report["fitted"]
    assert fitted["questions"] == 8
    assert (fitted["voters"]["v"]["right"], fitted["voters"]["w"]["right"]) == (8, 0)
    assert (fitted["voters"]["v"]["asked"], fitted["voters"]["w"]["asked"]) == (8, 5)
    # A failure there is one of the run's, beside those on its questions.
    assert result.failed == 1
    assert result.report["failures"] == [{"task_id": "fit/e5", "voter": "vote.fit", "error": "the engine died"}]


def test_both_reports_are_written(stored: Callable[..., Stored]) -> None:
    run = stored(1)
    result, out = run.evaluate([says("A", run.questions[0])])
    assert run.run.read("report.json").decode().startswith('{\n "questions": 1')
    assert result.report["out"] == run.run.shown
    assert b"#q0 which is it?" in run.run.read("report.html")
    assert "v answers 100.0% right" in out
