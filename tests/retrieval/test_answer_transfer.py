"""Answers by transfer: what is learned from solved questions, and that the order of the choices means nothing."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.retrieval.answer_transfer import FEATURES, Array, RetrievedExample, features, fit, log_probabilities
from codemmlu.retrieval.hashing import HashingEncoder
from codemmlu.retrieval.index_store import TransferWeights
from codemmlu.schema import Question, letters
from tests.support.example_indexes import solved
from tests.support.rows import question

ENCODER = HashingEncoder()
WORDS = [f"{first}{second}" for first, second in itertools.product("bdfgk", ["ab", "ed", "im", "ol", "ut"])]
MARKS = ("zab", "zed", "zim", "zol", "zut", "zax", "zop")  # as long as every other word


def neighbour(example: Question, similarity: float) -> RetrievedExample:
    return RetrievedExample(example, similarity, ENCODER.encode(example.choices))


def table(asked: Question, neighbours: Sequence[RetrievedExample]) -> Array:
    """The features of a question's choices."""
    return features(asked, ENCODER.encode([asked.question])[0], ENCODER.encode(asked.choices), neighbours)


def drawn(dice: np.random.Generator, task_id: str, mark: str) -> Question:
    """A question whose right choice alone has the `mark` in it; nothing else tells it from the others."""
    choices = [" ".join(dice.choice(WORDS, 2)) for _ in range(4)]
    right = int(dice.integers(4))
    choices[right] = " ".join([choices[right].split()[0], mark])
    return question(task_id, question=" ".join(dice.choice(WORDS, 6)), choices=tuple(choices), answer=letters(4)[right])


def right(asked: Question) -> int:
    return letters(4).index(asked.answer or "")


def followed(seed: int, count: int, neighbours: int = 8) -> list[tuple[Question, Array]]:
    """Questions with their features: the right choice shares a word with the right choices of its neighbours."""
    dice = np.random.default_rng(seed)
    made = []
    for n in range(count):
        mark = MARKS[n % len(MARKS)]
        near = [neighbour(drawn(dice, f"e{n}-{i}", mark), 0.5 + 0.05 * i) for i in range(neighbours)]
        asked = drawn(dice, f"q{n}", mark)
        made.append((asked, table(asked, near)))
    return made


def accuracy(learned: Sequence[tuple[Question, Array]], asked: Sequence[tuple[Question, Array]]) -> float:
    """Of weights learned from some questions, on others."""
    weights = fit([one for _, one in learned], [right(q) for q, _ in learned], seed=3)
    assert (weights.fitted_on, weights.seed, weights.features) == (len(learned), 3, FEATURES)
    return float(np.mean([int(log_probabilities(one, weights).argmax()) == right(q) for q, one in asked]))


def test_an_obvious_rule_is_learned() -> None:
    assert accuracy(followed(0, 150), followed(1, 60)) >= 0.85
    without = accuracy(followed(0, 150, neighbours=0), followed(1, 60, neighbours=0))
    assert without < 0.5, "the neighbours say it, and nothing else about the questions"


def test_what_is_learned_depends_on_nothing_but_what_is_shown() -> None:
    learned = followed(1, 40)
    tables, rights = [one for _, one in learned], [right(asked) for asked, _ in learned]
    assert fit(tables, rights, 0) == fit(tables, rights, 0)
    order = np.random.default_rng(2).permutation(40)
    other = fit([tables[i] for i in order], [rights[i] for i in order], 0)
    np.testing.assert_allclose(other.weights, fit(tables, rights, 0).weights, atol=1e-2)


def test_questions_of_any_number_of_choices_are_learned_from() -> None:
    near = [neighbour(solved("e1", "which", ("good word", "bad word")), 0.9)]
    asked = [
        (question("q1", choices=("good", "bad")), 0),
        (question("q2", choices=("bad", "worse", "good", "bad one")), 2),
        (question("q3", choices=("bad", "good", "other")), 1),
    ]
    weights = fit([table(one, near) for one, _ in asked] * 20, [place for _, place in asked] * 20, 0)
    for one, place in asked:
        assert int(log_probabilities(table(one, near), weights).argmax()) == place


def test_one_example_is_enough_to_make_weights_of() -> None:
    weights = fit([table(question("q1"), [])], [1], 0)
    assert np.isfinite(weights.weights).all()
    assert np.isfinite(weights.scales).all()


numbers = st.floats(-50, 50)


@given(
    st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=2, max_size=6), st.tuples(numbers, numbers, numbers)
)
def test_probabilities_sum_to_one_however_large_the_scores(rows: list[list[float]], weights: tuple[float, ...]) -> None:
    found = log_probabilities(np.array(rows), weights_of(weights))
    assert found.shape == (len(rows),)
    assert np.exp(found).sum() == pytest.approx(1)
    assert (found <= 1e-12).all()


def weights_of(weights: tuple[float, ...]) -> TransferWeights:
    return TransferWeights(
        features=("a", "b", "c"), scales=(1.0, 2.0, 0.5), weights=weights, fitted_on=1, seed=0, left_out=""
    )


def test_log_probabilities_are_those_worked_out_by_hand() -> None:
    table = np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.5]])
    found = log_probabilities(table, weights_of((0.0, float(np.log(2)), float(np.log(3)))))
    np.testing.assert_allclose(np.exp(found), [1 / 6, 2 / 6, 3 / 6])


phrases = st.lists(st.sampled_from([*WORDS[:8], "None of the above", "all of them", "Both"]), min_size=1, max_size=4)
choices = st.lists(phrases.map(" ".join), min_size=2, max_size=6)
examples = st.lists(st.tuples(choices, st.integers(0, 5), st.floats(-1, 1)), max_size=5)


def neighbours_of(drawn: Sequence[tuple[list[str], int, float]]) -> list[RetrievedExample]:
    return [
        neighbour(solved(f"e{n}", "which", texts, letters(len(texts))[answer % len(texts)]), similarity)
        for n, (texts, answer, similarity) in enumerate(drawn)
    ]


@given(choices, examples, st.data())
def test_the_order_of_the_choices_means_nothing(
    texts: list[str], drawn: list[tuple[list[str], int, float]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    near = neighbours_of(drawn)
    plain = table(question("q", choices=tuple(texts)), near)
    moved = table(question("q", choices=tuple(texts[i] for i in order)), near)
    assert plain.shape == (len(texts), len(FEATURES))
    np.testing.assert_allclose(moved, plain[list(order)], atol=1e-5)


@given(choices, examples, st.data())
def test_the_order_of_a_neighbours_choices_means_nothing(
    texts: list[str], drawn: list[tuple[list[str], int, float]], data: st.DataObject
) -> None:
    turned = []
    for others, answer, similarity in drawn:
        order = data.draw(st.permutations(range(len(others))))
        turned.append(([others[i] for i in order], order.index(answer % len(others)), similarity))
    asked = question("q", choices=tuple(texts))
    np.testing.assert_allclose(table(asked, neighbours_of(turned)), table(asked, neighbours_of(drawn)), atol=1e-5)


@given(choices, examples)
def test_features_are_finite_and_centred(texts: list[str], drawn: list[tuple[list[str], int, float]]) -> None:
    found = table(question("q", choices=tuple(texts)), neighbours_of(drawn))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)


def column(found: Array, name: str) -> list[float]:
    return [float(value) for value in found[:, FEATURES.index(name)]]


def test_nearer_neighbours_say_more() -> None:
    asked = question("q", choices=("cat", "dog"))
    near, far = solved("e1", "x", ("cat", "dog"), "A"), solved("e2", "x", ("cat", "dog"), "B")
    first, second = column(table(asked, [neighbour(near, 0.9), neighbour(far, 0.3)]), "right, same text, kernel 4")
    assert first > second
    first, second = column(table(asked, [neighbour(near, 0.3), neighbour(far, 0.9)]), "right, same text, kernel 4")
    assert first < second


def test_a_neighbour_s_wrong_and_right_choices_differ() -> None:
    found = table(question("q", choices=("Cat ", "dog", "eel")), [neighbour(solved("e1", "x", ("cat", "dog")), 1.0)])
    third = 1 / 3  # each feature is centred over the choices
    assert column(found, "right, same text, kernel 4") == pytest.approx([1 - third, -third, -third])
    assert column(found, "wrong, same text, kernel 4") == pytest.approx([-third, 1 - third, -third])


def test_how_a_choice_is_laid_out_is_seen() -> None:
    asked = question("q", question="what of a cat", choices=("a cat", "none of these", "all of the above, or more"))
    found = table(asked, [])
    for name, place in (("longest", 2), ("shortest", 0), ("none of", 1), ("all or both of", 2)):
        assert int(np.argmax(column(found, name))) == place, name
    assert int(np.argmax(column(found, "like the question"))) == 0


def test_a_line_break_at_a_choices_end_says_nothing() -> None:
    asked = question("q", question="which", choices=("  a b", "c d e", "f", "g h"), answer="A")
    ended = question("q", question="which", choices=("  a b\n", "c d e", "f", "g h \n"), answer="A")
    assert table(ended, []) == pytest.approx(table(asked, []))
