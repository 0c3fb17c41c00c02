"""The numbers of report.json: what counts as asked, as right, and as time."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from codemmlu.report.summary import (
    busy_seconds,
    chance,
    coverage_curve,
    leakage,
    letter_counts,
    vote_summary,
    voter_summary,
    wilson,
)
from codemmlu.rows import Question, Vote
from tests.samples import answer, failed, question, reading, verdict, vote


def asked(*outcomes: tuple[str | None, str | None, str]) -> tuple[list[Question], list[Vote]]:
    """Questions and votes out of (right letter, said letter, status)."""
    questions = [question(f"t{n}", answer=right) for n, (right, _, _) in enumerate(outcomes)]
    return questions, [vote(said, status=status) for _, said, status in outcomes]


def test_abstentions_count_against_accuracy_and_failures_are_left_out() -> None:
    questions, votes = asked(
        ("A", "A", "answered"),
        ("B", "B", "answered"),
        ("C", "A", "answered"),
        ("D", None, "abstained"),
        ("A", None, "failed"),
        (None, "A", "answered"),
        (None, None, "abstained"),
        (None, None, "failed"),
    )
    told = voter_summary(questions, votes, [])
    assert told["accuracy"] == 2 / 4
    assert told["accuracy_answered"] == 2 / 3
    assert told["interval"] == wilson(2, 4)
    assert (told["answered"], told["abstained"], told["failed"]) == (4, 2, 2)
    assert told["letters_said"] == {"A": 3, "B": 1}


def test_without_labels_there_is_no_accuracy() -> None:
    told = voter_summary(*asked((None, "A", "answered"), (None, None, "failed")), [])
    assert (told["accuracy"], told["accuracy_answered"], told["interval"]) == (None, None, None)
    assert (told["answered"], told["failed"]) == (1, 1)


def test_where_everything_failed_there_is_no_accuracy_rather_than_none_right() -> None:
    told = voter_summary(*asked(("A", None, "failed")), [])
    assert (told["accuracy"], told["accuracy_answered"], told["interval"]) == (None, None, None)


def test_where_everything_was_abstained_nothing_is_right() -> None:
    told = voter_summary(*asked(("A", None, "abstained")), [])
    assert (told["accuracy"], told["accuracy_answered"]) == (0.0, None)


def test_cost_and_mass_are_of_all_answers() -> None:
    questions = [question(f"t{n}") for n in range(3)]
    masses = [answer(questions[n], readings=(reading((-1.0, -2.0), mass=m),)) for n, m in enumerate((0.5, 0.75))]
    told = voter_summary(questions, [vote("A")] * 3, [*masses, failed(questions[2], prompt_tokens=7, started=1.0)])
    assert (told["prompt_tokens"], told["cached_tokens"], told["generated_tokens"]) == (27, 12, 3)
    assert told["letter_mass"] == 0.625
    assert told["seconds"] == 2.0
    assert voter_summary([], [], [])["letter_mass"] is None


def test_the_vote_has_the_voters_denominators() -> None:
    rights = ["A", "B", "C", None, "D"]
    said = ["A", None, None, "A", "A"]
    questions = [question(f"t{n}", answer=right) for n, right in enumerate(rights)]
    verdicts = [verdict(letter, f"t{n}", n) for n, letter in enumerate(said)]
    told = vote_summary("log_pool", questions, verdicts, all_failed={"t2"})
    assert told["accuracy"] == 1 / 3  # t0 right, t1 without an answer, t4 wrong; t2 failed everywhere
    assert told["interval"] == wilson(1, 3)
    assert told["answered"] == 3
    assert told["letters_said"] == {"A": 3}
    unlabelled = vote_summary("log_pool", [question(answer=None)], [verdict("A")], set())
    assert (unlabelled["accuracy"], unlabelled["interval"]) == (None, None)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_known_values(right: int, n: int, low: float, high: float) -> None:
    """The last is the worked example of Newcombe (1998)."""
    assert wilson(right, n) == pytest.approx([low, high], abs=1e-4)


def test_of_nothing_there_is_no_interval() -> None:
    assert wilson(0, 0) is None


@given(st.integers(1, 5000), st.data())
def test_wilson_is_the_written_formula(n: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, n))
    z, p = stats.norm.ppf(0.975), right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    found = wilson(right, n)
    assert found == pytest.approx([max(0.0, centre - half), min(1.0, centre + half)], abs=1e-9)


@pytest.mark.parametrize(
    ("spans", "seconds"),
    [
        ([], 0.0),
        ([(0, 2)], 2.0),
        ([(0, 2), (1, 2)], 3.0),  # they overlap
        ([(0, 9), (1, 2), (4, 2)], 9.0),  # one within another
        ([(100, 1), (0, 1)], 2.0),  # two issues of a run, with a night between them
        ([(0, 1), (1, 1)], 2.0),
        ([(5, 0), (5, 0)], 0.0),
    ],
)
def test_busy_is_when_at_least_one_ask_was_under_way(spans: list[tuple[int, int]], seconds: float) -> None:
    answers = [answer(question(), started=float(start), seconds=float(length)) for start, length in spans]
    assert busy_seconds(answers) == seconds


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=12))
def test_busy_is_the_union_in_any_order(spans: list[tuple[int, int]]) -> None:
    answers = [answer(question(), started=float(start), seconds=float(length)) for start, length in spans]
    covered = {second for start, length in spans for second in range(start, start + length)}
    assert busy_seconds(answers) == len(covered)


def test_guessing_is_one_in_as_many_as_there_are_choices() -> None:
    two, four = question(choices=("a", "b")), question()
    assert chance([two, four, question(answer=None, choices=("a",) * 26)]) == 0.375
    assert chance([question(answer=None)]) is None


def test_letters_are_counted_in_the_order_of_the_alphabet() -> None:
    assert list(letter_counts(["D", "A", None, "D", "B"]).items()) == [("A", 1), ("B", 1), ("D", 2)]


def sure(*outcomes: tuple[str | None, str | None, float]) -> tuple[list[Question], list[Vote]]:
    """Questions and votes out of (right letter, said letter or None for an abstention, its probability)."""
    questions = [question(f"t{n}", answer=right) for n, (right, _, _) in enumerate(outcomes)]
    votes = []
    for _, said, probability in outcomes:
        if said is None:
            votes.append(vote(None, status="abstained"))
        else:
            rest = (1 - probability) / 3
            votes.append(vote(said, tuple(probability if letter == said else rest for letter in "ABCD")))
    return questions, votes


def test_coverage_by_hand() -> None:
    """Ten labelled questions: right where it is sure, wrong where it is not, and silent on two."""
    sure_of = [("A", "A", 0.9), ("B", "B", 0.3), ("C", "C", 0.8), ("D", "A", 0.4), ("A", "A", 0.7)]
    less_so = [("B", "C", 0.35), ("D", "D", 0.5), ("A", "B", 0.6)]
    no_part = [(None, "B", 0.99)]  # it has no label
    curve = coverage_curve(*sure(*sure_of, *no_part, ("C", None, 0.0), *less_so, ("B", None, 0.0)))
    # 0.9 right, 0.8 right, 0.7 right, 0.6 wrong, 0.5 right, 0.4 wrong, 0.35 wrong, 0.3 right; two never answered
    rights = [1, 2, 3, 3, 4, 4, 4, 5]
    assert [point["coverage"] for point in curve] == pytest.approx([n / 10 for n in range(1, 9)])
    assert [point["accuracy"] for point in curve] == pytest.approx([right / n for n, right in enumerate(rights, 1)])
    assert [point["surer_than"] for point in curve] == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.35, 0.3])


def test_of_equally_sure_answers_the_first_in_the_file_counts_first() -> None:
    questions, votes = sure(*[("A", "A", 0.7)] * 5, *[("A", "B", 0.7)] * 5)
    votes = [replace(v, task_id=q.task_id, position=q.position) for q, v in zip(questions, votes, strict=True)]
    forward = coverage_curve(questions, votes)
    assert [point["accuracy"] for point in forward[:5]] == [1.0] * 5
    assert forward[-1]["accuracy"] == 0.5
    assert coverage_curve(questions[::-1], votes[::-1]) == forward, "whatever order they come in"


def test_failures_are_no_part_of_the_coverage_and_nothing_has_no_curve() -> None:
    questions, votes = sure(("A", "A", 0.9), ("A", "A", 0.8))
    with_failure = coverage_curve([*questions, question("t9")], [*votes, vote(None, status="failed")])
    assert with_failure == coverage_curve(questions, votes)
    assert with_failure[-1]["coverage"] == 1.0
    assert coverage_curve([], []) == []
    assert coverage_curve(*sure((None, "A", 0.9))) == []
    assert coverage_curve(*sure(("A", None, 0.0))) == []


def test_the_curve_is_part_of_a_voters_numbers() -> None:
    questions, votes = sure(("A", "A", 0.9), ("A", "B", 0.8))
    assert voter_summary(questions, votes, [])["coverage"] == coverage_curve(questions, votes)


def test_what_stands_among_the_examples_is_counted_apart() -> None:
    questions = [question(f"t{n}", answer="A") for n in range(6)]
    questions[5] = question("t5", answer=None)
    looked_up = [
        answer(questions[0], verbatim=True, nearest=1.0),
        answer(questions[1], verbatim=True, nearest=0.8),  # the same words, far by its vector
        answer(questions[2], verbatim=False, nearest=0.97),
        answer(questions[3], verbatim=False, nearest=0.96),
        answer(questions[4], verbatim=False, nearest=None),
        answer(questions[5], verbatim=True, nearest=1.0),
    ]
    votes = {
        "good": [vote("A"), vote("A"), vote("B"), vote("A"), vote("B"), vote("A")],
        "poor": [
            vote(None, status="failed"),
            vote("B"),
            vote(None, status="abstained"),
            vote("B"),
            vote("B"),
            vote("B"),
        ],
    }
    told = leakage(questions, votes, looked_up)
    assert told is not None
    assert (told["looked_up"], told["verbatim"], told["near_verbatim"], told["threshold"]) == (6, 3, 4, 0.97)
    good, poor = told["voters"]["good"], told["voters"]["poor"]
    assert good == {"leaked": {"asked": 3, "accuracy": 2 / 3}, "rest": {"asked": 2, "accuracy": 0.5}}
    assert poor == {"leaked": {"asked": 2, "accuracy": 0.0}, "rest": {"asked": 2, "accuracy": 0.0}}


def test_where_nobody_looked_there_is_no_leakage_to_tell() -> None:
    asked = question("t1")
    assert leakage([asked], {"v": [vote("A")]}, [answer(asked)]) is None
    assert leakage([asked], {"v": [vote("A")]}, []) is None


def test_a_question_nobody_looked_at_is_in_neither_part() -> None:
    questions = [question("t0", answer="A"), question("t1", answer="A")]
    told = leakage(questions, {"v": [vote("A"), vote("A")]}, [answer(questions[0], verbatim=False, nearest=0.2)])
    assert told is not None
    parts = told["voters"]["v"]
    assert parts == {"leaked": {"asked": 0, "accuracy": None}, "rest": {"asked": 1, "accuracy": 1.0}}
