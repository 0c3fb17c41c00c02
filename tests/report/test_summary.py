"""The numbers of report.json: what counts as asked, as right, as cost, as leaked."""

from typing import Any

import numpy as np
import pytest

from codemmlu.report import summary
from codemmlu.report.score_table import letter_counts
from codemmlu.report.statistics import wilson
from codemmlu.voting.aggregation import cost_sums, sum_costs
from codemmlu.voting.model import EnsembleModel, VoterFit
from tests.support.rows import answer, failed, question, reading
from tests.support.score_tables import Said, sheet

NOTHING = cost_sums(())


def summary_of(right: list[str | None], said: list[Said], **fields: Any) -> dict[str, Any]:
    """The numbers of one voter that cost nothing."""
    return summary.voter(sheet(right, {"v": said}, **fields), "v", NOTHING)


def test_abstentions_count_as_wrong_and_failures_are_left_out() -> None:
    right: list[str | None] = ["A", "B", "C", "D", "A", None, None, None, "A"]
    one = summary_of(right, ["A", "B", "A", None, "failed", "A", None, "failed", "skipped"])
    assert one["accuracy"] == 2 / 4
    assert one["accuracy_answered"] == 2 / 3
    assert one["interval"] == wilson(2, 4)
    assert (one["answered"], one["abstained"], one["failed"], one["skipped"]) == (4, 2, 2, 1)
    assert one["letters_said"] == {"A": 3, "B": 1}


@pytest.mark.parametrize(("right", "said"), [(None, "A"), ("A", "failed"), ("A", "skipped")])
def test_where_nothing_can_be_told_there_is_no_accuracy(right: str | None, said: str) -> None:
    one = summary_of([right], [said])
    assert (one["accuracy"], one["accuracy_answered"], one["interval"], one["bootstrap"]) == (None,) * 4


def test_where_everything_was_abstained_nothing_is_right() -> None:
    one = summary_of(["A"], [None])
    assert (one["accuracy"], one["accuracy_answered"]) == (0.0, None)


def test_cost_and_mass_are_of_all_answers() -> None:
    questions = [question(f"t{n}") for n in range(3)]
    masses = [answer(questions[n], readings=(reading((-1.0, -2.0), mass=m),)) for n, m in enumerate((0.5, 0.75))]
    costs = cost_sums([*masses, failed(questions[2], prompt_tokens=7, started=1.0)])
    one = summary.voter(sheet(["A"] * 3, {"v": ["A"] * 3}), "v", costs)
    assert (one["prompt_tokens"], one["cached_tokens"], one["generated_tokens"]) == (27, 12, 3)
    assert one["computed_tokens"] == 27 - 12 + 3
    assert one["letter_mass"] == 0.625
    assert one["seconds"] == 2.0
    assert one["above_chance_per_million_computed"] == pytest.approx(0.75 * 1e6 / 18)
    assert summary_of(["A"], ["A"])["letter_mass"] is None


def test_costs_add_up_and_time_that_overlaps_counts_once() -> None:
    first = cost_sums([answer(question("t1"), started=0.0, seconds=2.0)])
    second = cost_sums([answer(question("t2"), started=1.0, seconds=2.0), answer(question("t3"), started=9.0)])
    both = summary.cost(sum_costs([first, second]))
    assert (both["prompt_tokens"], both["readings"], both["seconds"]) == (30, 3, 4.0)


def test_an_answer_within_the_time_of_another_adds_no_time() -> None:
    within = [answer(question("t1"), seconds=9.0), answer(question("t2"), started=1.0)]
    assert summary.cost(cost_sums(within))["seconds"] == 9.0


def test_the_reading_beside_replies_is_told_by_itself() -> None:
    alone = {"v": np.array([0, 1, -1, 2], np.int8)}
    assert summary_of(["A", "A", "A", None], ["B"] * 4, alone=alone)["reading_alone"] == 0.5
    assert summary_of(["A"], ["B"])["reading_alone"] is None


def test_the_vote_has_the_voters_denominators() -> None:
    right: list[str | None] = ["A", "B", "C", None, "D"]
    said: list[Said] = ["A", None, "failed", "A", "A"]
    one = summary.vote(sheet(right, {}, rules={"log_pool": said}), "log_pool")
    assert one["accuracy"] == 1 / 3  # t0 right, t1 without an answer, t4 wrong; t2 failed everywhere
    assert one["interval"] == wilson(1, 3)
    assert one["answered"] == 3
    assert one["letters_said"] == {"A": 3}
    unlabelled = summary.vote(sheet([None], {}, rules={"log_pool": ["A"]}), "log_pool")
    assert (unlabelled["accuracy"], unlabelled["interval"]) == (None, None)


def test_guessing_is_one_in_as_many_as_there_are_choices() -> None:
    choices = np.array([2, 4, 26], np.int8)
    assert summary.chance(sheet(["A", "A", None], {}, choices=choices)) == 0.375
    assert summary.chance(sheet([None], {})) is None


def test_letters_are_counted_in_the_order_of_the_alphabet() -> None:
    assert list(letter_counts([3, 0, -1, 3, 1]).items()) == [("A", 1), ("B", 1), ("D", 2)]


def test_what_stands_among_the_examples_is_counted_apart() -> None:
    verbatim = np.array([1, 1, 0, 0, 0, 1], np.int8)
    nearest = np.array([1.0, 0.8, 0.97, 0.96, np.nan, 1.0])  # the second: the same words, far by its vector
    good: list[Said] = ["A", "A", "B", "A", "B", "A"]
    poor: list[Said] = ["failed", "B", None, "B", "B", "B"]
    right: list[str | None] = ["A"] * 5 + [None]
    found = summary.leakage(sheet(right, {"good": good, "poor": poor}, verbatim=verbatim, nearest=nearest))
    assert found is not None
    assert (found["looked_up"], found["verbatim"], found["near_verbatim"], found["threshold"]) == (6, 3, 4, 0.97)
    assert found["voters"] == {
        "good": {"leaked": {"asked": 3, "accuracy": 2 / 3}, "rest": {"asked": 2, "accuracy": 0.5}},
        "poor": {"leaked": {"asked": 2, "accuracy": 0.0}, "rest": {"asked": 2, "accuracy": 0.0}},
    }


def test_where_nobody_looked_there_is_no_leakage_to_tell() -> None:
    assert summary.leakage(sheet(["A"], {"v": ["A"]})) is None


def test_a_question_nobody_looked_at_is_in_neither_part() -> None:
    looked_up = {"verbatim": np.array([0, -1], np.int8), "nearest": np.array([0.2, np.nan])}
    found = summary.leakage(sheet(["A", "A"], {"v": ["A", "A"]}, **looked_up))
    assert found is not None
    assert found["voters"]["v"] == {"leaked": {"asked": 0, "accuracy": None}, "rest": {"asked": 1, "accuracy": 1.0}}


def test_order_sensitivity_is_told_where_it_was_measured() -> None:
    found = summary.order_sensitivity({"v": {"A": [3, 4], "B": [1, 4], "C": [0, 0]}})
    assert found == {"v": {"asked": 4, "accuracy": {"A": 0.75, "B": 0.25, "C": None}, "std": 0.25}}
    assert summary.order_sensitivity({}) is None


def test_every_rule_is_told_with_what_the_fit_split_says_of_it() -> None:
    one = sheet(["A", "B"], {}, rules={"majority": ["A", "A"], "log_pool": ["A", "B"]})
    found = summary.rules(one, EnsembleModel(cross_validated={"majority": 0.4}))
    assert [(found[rule]["accuracy"], found[rule]["cross_validated"]) for rule in found] == [(0.5, 0.4), (1.0, None)]


def test_weights_are_told_of_every_voter() -> None:
    fitted = EnsembleModel(voters={"one": VoterFit(weight=0.2)}, agreed={"two": 0.7})
    found = summary.weights(fitted, ["one", "two"])
    assert (found["one"]["weight"], found["one"]["agreed"]) == (0.2, None)
    assert (found["two"]["weight"], found["two"]["skill"], found["two"]["agreed"]) == (1.0, 0.7, 0.7)


def report(**fields: Any) -> dict[str, Any]:
    """The numbers behind a headline."""
    vote = {"rule": "log_pool", "accuracy": 0.75, "interval": [0.6, 0.9], "asked": 40, "answered": 40}
    pair = {"first": "one", "second": "vote", "p_holm": 0.5, "difference": 0.05}
    voters = {"one": {"accuracy": 0.7, "asked": 40}, "two": {"accuracy": 0.9, "asked": 3}}
    return {
        "questions": 40,
        "labelled": 40,
        "chance": 0.25,
        "vote": vote,
        "voters": voters,
        "comparisons": [pair],
        **fields,
    }


def test_the_headline_compares_the_vote_with_its_best_voter() -> None:
    said = summary.headline(report())
    assert "The vote (log_pool) answers 75.0% right (95 % interval 60.0% to 90.0%; guessing 25.0%) of 40" in said
    assert said.endswith("It cannot be told apart from its best voter, one (70.0%; p = 0.5, corrected for 1 pairs).")
    better = {"first": "one", "second": "vote", "p_holm": 0.01, "difference": 0.05}
    assert "better than its best voter, one" in summary.headline(report(comparisons=[better]))
    assert "worse than its best" in summary.headline(report(comparisons=[{**better, "difference": -0.05}]))


def test_the_headline_of_one_voter_names_it() -> None:
    assert summary.headline(report(voters={"one": {"accuracy": 0.7}})).startswith("one answers 75.0% right")


def test_a_headline_without_labels_tells_no_accuracy() -> None:
    vote = {"rule": "log_pool", "accuracy": None, "interval": None, "asked": 0, "answered": 39}
    said = summary.headline(report(vote=vote, labelled=0))
    assert said.startswith("39 questions answered, 1 of 40 questions have no answer.")
    assert summary.headline(report(vote=vote)).startswith("All answers to the 40 labelled questions failed")
