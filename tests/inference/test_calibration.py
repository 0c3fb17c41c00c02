"""Thresholds: what every one of them would have made of conversations that went on to the end."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from codemmlu.inference.calibration import DEFAULT_THRESHOLD, fit_threshold
from codemmlu.schema import Answer, Question, Turn
from tests.support.rows import ASK, answer, failed, question


def talk(of: Question, *checked: float) -> Answer:
    """A conversation that answered A, B, ... with these checks, and one letter more without."""
    turns: list[Turn] = []
    for letter, p in zip("ABCD", checked, strict=False):
        turns += [Turn("answer", letter, None, "", "exact"), Turn("check", letter, p, "", "exact")]
    turns.append(Turn("answer", "ABCD"[len(checked)], None, "", "exact"))
    return answer(of, turns=tuple(turns))


def asked(*right: str) -> list[Question]:
    return [question(f"t{n}", answer=letter) for n, letter in enumerate(right)]


def fitted(questions: list[Question], *answers: Answer) -> float:
    return fit_threshold(questions, ASK, {one.key: one for one in answers})


def test_a_threshold_between_right_and_wrong_is_found() -> None:
    questions = asked("A", "A", "B", "B")
    talks = [talk(q, p, 0.9) for q, p in zip(questions, (0.8, 0.75, 0.7, 0.6), strict=True)]
    assert 0.7 < fitted(questions, *talks) < 0.75


def test_of_equals_the_nearest_to_the_default_is_taken() -> None:
    questions = asked("A", "A")
    assert fitted(questions, *(talk(q, 0.9, 0.9) for q in questions)) == DEFAULT_THRESHOLD


def test_never_accepting_may_be_best() -> None:
    questions = asked("C", "C")
    assert fitted(questions, *(talk(q, 0.99, 0.98) for q in questions)) == 1.0


def test_failures_and_what_was_not_asked_do_not_count() -> None:
    questions = asked("A", "B", "B")
    assert fitted(questions) == DEFAULT_THRESHOLD
    assert fitted(questions, talk(questions[0], 0.3, 0.9), failed(questions[1])) < 0.3


def test_the_order_of_the_conversations_does_not_matter() -> None:
    questions = asked("A", "B", "A", "B", "C")
    talks = [talk(q, 0.1 * n + 0.3, 0.5) for n, q in enumerate(questions)]
    assert fitted(questions, *talks) == fitted(questions[::-1], *talks[::-1])


@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.lists(st.floats(0, 1), min_size=1, max_size=3)), min_size=1))
def test_no_other_threshold_would_have_been_right_more_often(said: list[tuple[str, list[float]]]) -> None:
    questions = asked(*(letter for letter, _ in said))
    talks = [talk(of, *checks) for of, (_, checks) in zip(questions, said, strict=True)]

    def right(threshold: float) -> int:
        ends = (
            next((t.letter for t in one.turns if t.p_true is not None and t.p_true >= threshold), one.turns[-1].letter)
            for one in talks
        )
        return sum(end == of.answer for end, of in zip(ends, questions, strict=True))

    checks = sorted({p for _, these in said for p in these})
    tried = [DEFAULT_THRESHOLD, 0.0, 1.0, *((low + high) / 2 for low, high in itertools.pairwise(checks))]
    assert right(fitted(questions, *talks)) == max(map(right, tried))
