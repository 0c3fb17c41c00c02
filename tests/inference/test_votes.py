"""Voters as views: stored answers become votes, without an engine."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codemmlu.inference.answer_store import stored_answers
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.inference.votes import submitted, submitted_on_fit, unclear, votes_from_answers
from codemmlu.recipe import AskedVoter, RetrieveVoter, WhenSettings
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Neighbour, Question, Vote, to_table
from tests.support.rows import ASK, DIRECT, answer, failed, question, reading, vote

QUESTIONS = [question(f"t{n}") for n in range(4)]
KEY = ASK.key(QUESTIONS[0])


def votes_of(
    name: str, settings: AskedVoter, ask: InferenceSpec, questions: Sequence[Question], *stored: Any
) -> list[Vote]:
    """Return the votes of a voter. stored: the answers, and the prior where it divides one out."""
    return votes_from_answers(ResolvedVoter(name, settings, settings.pool, ask), questions, *stored)


def keep(run: RunDir, *files: Iterable[Answer]) -> None:
    """Writes one file of answers for each."""
    run.clear("answers/m")
    for number, rows in enumerate(files):
        run.write_table(f"answers/m/{number}.parquet", to_table(rows, Answer))


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run without answers."""
    return RunDir(str(tmp_path))


def test_votes_stand_in_the_order_of_the_questions(run: RunDir) -> None:
    keep(run, [answer(QUESTIONS[2])], [answer(QUESTIONS[0]), answer(QUESTIONS[3])])
    answers = stored_answers(run, "m", {ASK.key(q) for q in QUESTIONS})
    votes = votes_of("one", DIRECT, ASK, QUESTIONS, answers)
    assert [(v.voter, v.task_id, v.position) for v in votes] == [("one", q.task_id, q.position) for q in QUESTIONS]
    assert [v.status for v in votes] == ["answered", "failed", "answered", "answered"]


def test_a_vote_has_the_probabilities_of_its_readings(run: RunDir) -> None:
    shown = reading((-0.5, -3.0, -3.0, -3.0), order=(2, 0, 1, 3))  # letter A shows the third choice
    keep(run, [answer(QUESTIONS[0], letter="C", readings=(shown,))])
    (seen,) = votes_of("one", DIRECT, ASK, QUESTIONS[:1], stored_answers(run, "m", {KEY}))
    assert seen.letter == "C"
    assert sum(seen.probabilities) == pytest.approx(1)
    assert max(seen.probabilities) == seen.probabilities[2] == pytest.approx(0.8024, abs=1e-4)


@pytest.mark.parametrize("status", ["abstained", "failed"])
def test_what_is_no_answer_has_no_letter_whatever_its_readings(run: RunDir, status: str) -> None:
    row = replace(answer(QUESTIONS[0]), status=status)  # type: ignore[arg-type]
    keep(run, [row])
    (seen,) = votes_of("one", DIRECT, ASK, QUESTIONS[:1], stored_answers(run, "m", {KEY}))
    assert (seen.status, seen.letter, seen.probabilities) == (status, None, ())


def test_what_was_never_asked_counts_as_failed() -> None:
    (seen,) = votes_of("one", DIRECT, ASK, QUESTIONS[:1], {})
    assert (seen.status, seen.letter) == ("failed", None)


def test_only_the_answers_of_this_recipe_are_read(run: RunDir) -> None:
    other = replace(ASK, weights="w2")
    keep(run, [answer(QUESTIONS[0], other), answer(QUESTIONS[1])])
    run.write_table("answers/n/0.parquet", to_table([answer(QUESTIONS[0])], Answer))
    assert stored_answers(run, "m", {KEY}) == {}


LATE, EARLY = answer(QUESTIONS[0], started=9.0), answer(QUESTIONS[0], started=5.0)
RIVALS = [failed(QUESTIONS[0], started=1.0), LATE, EARLY, failed(QUESTIONS[0], started=2.0)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(RIVALS), st.integers(0, 4))
def test_of_several_answers_the_first_that_is_no_failure_counts(run: RunDir, rows: list[Answer], cut: int) -> None:
    """Whatever the order of the rows and of the files they are in."""
    keep(run, rows[:cut], rows[cut:])
    assert stored_answers(run, "m", {KEY}) == {KEY: EARLY}


def test_of_failures_alone_the_first_counts(run: RunDir) -> None:
    keep(run, RIVALS[3:], RIVALS[:1])
    assert stored_answers(run, "m", {KEY})[KEY].started == 1.0


def test_an_abstention_stands_against_a_failure(run: RunDir) -> None:
    abstained = answer(QUESTIONS[0], status="abstained", letter=None, started=9.0)
    keep(run, [failed(QUESTIONS[0], started=1.0)], [abstained])
    assert stored_answers(run, "m", {KEY}) == {KEY: abstained}


def near(similarity: float | None) -> Answer:
    """An answer whose nearest example is so near; None: it was given none."""
    retrieved = () if similarity is None else (Neighbour("e1", similarity), Neighbour("e2", similarity - 0.1))
    return answer(QUESTIONS[0], retrieved=retrieved)


@pytest.mark.parametrize(
    ("below", "similarity", "status"),
    [
        (0.5, 0.49, "abstained"),
        (0.5, 0.5, "answered"),
        (0.5, 0.9, "answered"),
        (0.5, None, "abstained"),
        (1.0, 0.99, "abstained"),
        (0.0, -0.5, "answered"),
        (0.0, None, "answered"),
        (-1.0, None, "answered"),
    ],
)
def test_where_nothing_is_near_enough_retrieval_abstains(below: float, similarity: float | None, status: str) -> None:
    voter = RetrieveVoter(method="retrieve", abstain_below=below)
    (seen,) = votes_of("near", voter, ASK, QUESTIONS[:1], {KEY: near(similarity)})
    assert seen.status == status
    assert (seen.letter, len(seen.probabilities)) == (("B", 4) if status == "answered" else (None, 0))


def test_two_thresholds_are_two_views_on_one_answer() -> None:
    votes = [
        votes_of(name, RetrieveVoter(method="retrieve", abstain_below=below), ASK, QUESTIONS[:1], {KEY: near(0.7)})
        for name, below in (("bold", 0.0), ("shy", 0.8))
    ]
    assert [vote.status for (vote,) in votes] == ["answered", "abstained"]


def test_a_model_that_is_shown_examples_does_not_abstain() -> None:
    (seen,) = votes_of("one", DIRECT, ASK, QUESTIONS[:1], {KEY: near(0.1)})
    assert seen.status == "answered"


def test_what_failed_stays_failed_however_near_its_examples_are() -> None:
    voter = RetrieveVoter(method="retrieve", abstain_below=0.5)
    (seen,) = votes_of("near", voter, ASK, QUESTIONS[:1], {KEY: failed(QUESTIONS[0])})
    assert seen.status == "failed"


def votes(voter: str, *said: tuple[str, tuple[float, ...]]) -> list[Vote]:
    """One vote for each question."""
    letters = [("A" if status == "answered" else None) for status, _ in said]
    return [
        vote(letter, probabilities, voter, status, task_id=f"t{place}", position=place, choices=2)
        for place, ((status, probabilities), letter) in enumerate(zip(said, letters, strict=True))
    ]


CLEAR, CLOSE = ("answered", (0.9, 0.1)), ("answered", (0.55, 0.45))


def test_unclear_is_what_is_close_or_unanswered() -> None:
    when = WhenSettings(margin_below=0.3, of=("a",))
    said = votes("a", CLEAR, CLOSE, ("abstained", ()), ("failed", ()))
    assert unclear(when, {"a": said}) == {"t1", "t2", "t3"}


def test_voters_that_disagree_leave_a_question_unclear() -> None:
    when = WhenSettings(margin_below=0.3, of=("a", "b"))
    other = ("answered", (0.1, 0.9))
    assert unclear(when, {"a": votes("a", CLEAR, CLEAR), "b": votes("b", CLEAR, other)}) == {"t1"}


def test_what_an_earlier_cascade_found_clear_stays_clear() -> None:
    when = WhenSettings(margin_below=0.3, of=("b",))
    assert unclear(when, {"b": votes("b", ("skipped", ()), CLOSE, CLEAR)}) == {"t1"}


def test_a_submission_votes_by_letters_alone() -> None:
    said = {"t0": "B", "t1": None, "t2": "E", "other": "A"}
    votes = submitted("theirs", QUESTIONS, said)
    assert [(v.status, v.letter, v.probabilities) for v in votes] == [
        ("answered", "B", ()),
        ("abstained", None, ()),
        ("abstained", None, ()),  # of four choices none is E
        ("abstained", None, ()),
    ]


def test_a_submission_skips_examples_that_it_does_not_answer() -> None:
    """Nor of one that has the name of a question: it may have meant that."""
    examples = [question("fit/t0"), question("fit/t1"), question("fit/t2")]
    votes = submitted_on_fit("theirs", examples, {"t0": "D", "t2": "A"}, frozenset({"t2"}))
    assert [(v.task_id, v.status, v.letter) for v in votes] == [
        ("fit/t0", "answered", "D"),
        ("fit/t1", "skipped", None),
        ("fit/t2", "skipped", None),
    ]


def test_a_sure_voter_decides_alone() -> None:
    when = WhenSettings(undecided_by=("a", "b"), confidence=0.8)
    sure, unsure, silent = ("answered", (0.9, 0.1)), ("answered", (0.7, 0.3)), ("abstained", ())
    first, second = votes("a", sure, unsure, silent, silent), votes("b", silent, unsure, sure, silent)
    assert unclear(when, {"a": first, "b": second}) == {"t1", "t3"}
