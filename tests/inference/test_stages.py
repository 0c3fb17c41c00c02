"""The schedule: what waits for what, and what each stage asks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.dataset.label_position import with_answer_at
from codemmlu.inference.calibration import PILOT, Calibration, identity, null_questions, pilot_questions
from codemmlu.inference.spec import InferenceSpec
from codemmlu.inference.stages import InferenceTask, PoolSession, concurrent_groups, items, plan_sessions
from codemmlu.inference.voters import ResolvedVoter
from codemmlu.recipe import DirectVoter, WhenSettings
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, to_table
from tests.support.rows import ASK, question

MANY = [question(f"t{n}", question=f"question {n}") for n in range(200)]


def voter(name: str, *of: str, pool: str = "m", **settings: object) -> ResolvedVoter:
    """A voter with an ask of its own, which waits for others."""
    when = WhenSettings(margin_below=0.3, of=of) if of else None
    voter = DirectVoter.model_validate({"model": pool, "when": when, **settings})
    return ResolvedVoter(name, voter, pool, InferenceSpec(pool, name, "direct"))


def asked(planned: list[PoolSession]) -> list[tuple[str, list[list[str]]]]:
    """Pools with the weights (here: the voters' names) of what each stage asks."""
    return [(one.pool, [[asking.spec.weights for asking in stage] for stage in one.stages]) for one in planned]


def test_what_waits_for_nothing_is_one_stage() -> None:
    assert asked(plan_sessions([voter("a"), voter("b")], ())) == [("m", [["a", "b"]])]


def groups(*voters: ResolvedVoter) -> list[list[str]]:
    """The pools that may be asked at once."""
    return [
        [one.pool for one in group]
        for group in concurrent_groups(plan_sessions(voters, ()), {one.name: one for one in voters})
    ]


def test_pools_that_do_not_wait_may_be_asked_at_once() -> None:
    assert groups(voter("a", pool="x"), voter("b", pool="y"), voter("c", pool="z")) == [["x", "y", "z"]]
    assert groups(voter("a", pool="x"), voter("b", "a", pool="y")) == [["x"], ["y"]]
    assert groups(voter("a", pool="x"), voter("b", pool="y"), voter("c", "a", "b", pool="z")) == [["x", "y"], ["z"]]
    assert groups(voter("a", pool="x"), voter("b", "a", pool="y"), voter("c", pool="z")) == [["x"], ["y", "z"]]


def test_two_voters_of_one_ask_ask_once() -> None:
    one = voter("a")
    assert asked(plan_sessions([one, replace(one, name="b")], ())) == [("m", [["a"]])]


def test_a_cascade_in_one_pool_is_one_start() -> None:
    assert asked(plan_sessions([voter("c", "b"), voter("b", "a"), voter("a")], ())) == [("m", [["a"], ["b"], ["c"]])]


def test_a_cascade_over_pools_asks_the_cheap_one_first() -> None:
    dear, cheap = voter("dear", "cheap", pool="x"), voter("cheap", pool="m")
    assert asked(plan_sessions([dear, cheap], ())) == [("m", [["cheap"]]), ("x", [["dear"]])]


def test_a_pool_that_is_waited_for_and_waits_is_started_twice() -> None:
    voters = [voter("a", pool="x"), voter("b", "a", pool="y"), voter("c", "b", pool="x")]
    assert asked(plan_sessions(voters, ())) == [("x", [["a"]]), ("y", [["b"]]), ("x", [["c"]])]


def test_an_early_exit_waits_for_its_pilot() -> None:
    pilot = Calibration(InferenceSpec("m", "pilot", "direct"), tuple(MANY[:3]), "pilot")
    early = replace(voter("early", readings="cyclic", calibrate="prior", early_exit="margin"), calibration=pilot)
    (only,) = plan_sessions([early, voter("plain")], ())
    assert only.stages[0] == (
        InferenceTask(pilot.spec, "test", pilot.questions),
        InferenceTask(InferenceSpec("m", "plain", "direct")),
    )
    assert only.stages[1] == (InferenceTask(early.spec, after=pilot),)


def test_empty_questions_are_asked_for_each_number_of_choices() -> None:
    empty = null_questions({2, 4})
    assert {len(one.choices) for one in empty} == {2, 4}
    assert len({one.task_id for one in empty}) == len(empty) == 6
    calibration = Calibration(InferenceSpec("m", "empty", "direct"), empty, "null")
    (only,) = plan_sessions([replace(voter("a"), calibration=calibration)], ())
    assert [asking.split for asking in only.stages[0]] == ["null", "test"]


def test_the_pilot_does_not_depend_on_the_order_of_the_questions() -> None:
    pilot = pilot_questions(MANY, ())
    assert len(pilot) == PILOT
    assert set(pilot_questions(MANY[::-1], ())) == set(pilot)
    assert set(pilot) != set(MANY[:PILOT])


def test_a_written_pilot_stays_as_long_as_all_of_it_is_asked() -> None:
    first = pilot_questions(MANY[:100], ())
    written = [identity(one) for one in first]
    assert set(pilot_questions(MANY, written)) == set(first) != set(pilot_questions(MANY, ()))
    fewer = [one for one in MANY if one != first[0]]
    assert set(pilot_questions(fewer, written)) == set(pilot_questions(fewer, ()))


def test_a_later_twin_takes_no_place_in_a_pilot() -> None:
    """Real files repeat whole questions under other task_ids."""
    twins = [replace(one, task_id=f"twin-{one.task_id}") for one in MANY[:100]]
    first = pilot_questions([*MANY[:50], *twins[:50]], ())
    written = [identity(one) for one in first]
    assert set(pilot_questions([*MANY[:50], *twins[:50]], written)) == set(first)
    assert set(pilot_questions([*MANY, *twins], written)) == set(first)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run with three questions."""
    made = RunDir(str(tmp_path))
    made.write_table("questions/000000.parquet", to_table(MANY[:3], Question))
    return made


def test_a_cascade_asks_what_is_unclear_alone(run: RunDir) -> None:
    when = WhenSettings(margin_below=0.3, of=("a",))
    stage = (InferenceTask(ASK), InferenceTask(replace(ASK, weights="dear"), when=when))
    found = list(items(run, stage, lambda _: frozenset({"t1"})))
    assert [(one.question.task_id, len(one.asks)) for one in found] == [("t0", 1), ("t1", 2), ("t2", 1)]


def test_swaps_put_the_right_choice_at_every_letter(run: RunDir) -> None:
    found = list(items(run, (InferenceTask(ASK, "swap", swaps=True),), lambda _: frozenset()))
    assert [one.question.answer for one in found] == list("ABCD") * 3
    assert {one.question.choices[ord(one.question.answer or "") - 65] for one in found} == {"two"}
    assert {one.split for one in found} == {"swap"}


def test_what_a_stage_asks_twice_is_asked_once(run: RunDir) -> None:
    """A pilot's question is one of the run's; a question whose right choice is at B already needs no moving there."""
    other = replace(ASK, weights="other")
    stage = (
        InferenceTask(ASK, questions=(MANY[0], MANY[0])),
        InferenceTask(ASK),
        InferenceTask(other),
        InferenceTask(ASK, "swap", swaps=True),
    )
    found = [(one.question.task_id, one.split, one.asks) for one in items(run, stage, lambda _: frozenset())]
    moved = [[(f"t{n}", "swap", (ASK,))] * 3 for n in range(3)]
    assert found[:5] == [("t0", "test", (ASK,)), ("t0", "test", (other,)), *moved[0]], "it is right at B"
    assert found[5:] == [("t1", "test", (ASK, other)), *moved[1], ("t2", "test", (ASK, other)), *moved[2]]


def test_a_swap_moves_two_choices_and_nothing_else() -> None:
    asked_at_d = with_answer_at(question(choices=("one", "two", "three", "four", "five")), "D")
    assert asked_at_d
    assert asked_at_d.choices == ("one", "four", "three", "two", "five")
    assert asked_at_d.answer == "D"
    assert with_answer_at(question(), "B") == question()


@pytest.mark.parametrize("fields", [{"answer": None}, {"choices": ("one", "two", "three")}])
def test_what_cannot_be_swapped_to_every_letter_is_left_out(fields: dict[str, Any]) -> None:
    assert with_answer_at(question(**fields), "A") is None
