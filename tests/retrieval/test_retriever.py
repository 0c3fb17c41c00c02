"""The library: which examples a question is given, in what order, and what happens when a vector is no vector."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.recipe import ExampleSettings
from codemmlu.retrieval.embedder import Vectors
from codemmlu.retrieval.hashing import HashingEncoder
from codemmlu.retrieval.retriever import Retriever
from codemmlu.retrieval.selection import Candidate, SelectionPolicy, diverse, ranked
from codemmlu.schema import Question
from tests.support.embedders import BROKEN, Placed
from tests.support.example_indexes import library, solved
from tests.support.rows import question


def ids_of(index: Retriever, asked: Question, most: int) -> list[str]:
    """The task_ids of the examples that a question is given, nearest first."""
    (found,) = index.retrieve([asked], most)
    return [one.example.task_id for one in found.solved]


def angle(degrees: float) -> tuple[float, float]:
    """A vector whose cosine to (1, 0) is that of the angle."""
    return float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))


# Examples at 60, 10, 35 and 80 degrees from the question `asked`.
AROUND = {"asked": angle(0), "e60": angle(60), "e10": angle(10), "e35": angle(35), "e80": angle(80)}
ASKED = question("asked", question="asked")


def around(**rule: Any) -> Retriever:
    """A library of the four examples in AROUND."""
    return library([solved(name, name) for name in AROUND if name != "asked"], Placed(AROUND), **rule)


def test_the_nearest_come_first_with_their_cosines() -> None:
    (found,) = around().retrieve([ASKED], 3)
    assert [one.example.task_id for one in found.solved] == ["e10", "e35", "e60"]
    assert [one.similarity for one in found.solved] == pytest.approx([0.9848, 0.8192, 0.5], abs=1e-3)
    assert found.nearest == pytest.approx(0.9848, abs=1e-3)


def test_an_example_comes_back_with_its_choices_vectors() -> None:
    example = solved("e1", "Which  loop?\n", ("for", "while", "do"), "C")
    (found,) = library([example]).retrieve([question("q1", question="which loop")], 1)
    (one,) = found.solved
    assert one.example == example
    np.testing.assert_allclose(one.choice_vectors, HashingEncoder().encode(example.choices), atol=1e-3)


def test_where_the_index_holds_fewer_all_of_them_are_given() -> None:
    assert ids_of(around(), ASKED, 256) == ["e10", "e35", "e60", "e80"]
    assert ids_of(library([solved("asked", "asked")]), ASKED, 3) == [], "a question alone in the index has no example"


def test_every_question_of_a_block_has_its_own_neighbours() -> None:
    examples = [solved(f"e{n}", f"word{n} word{n + 1}") for n in range(20)]
    asked = [question(f"q{n}", question=f"word{n} word{n + 1}") for n in range(20)]
    together = library(examples).retrieve(asked, 2)
    for one in together:
        assert [s.example.task_id for s in one.solved] == ids_of(library(examples), one.question, 2)


# --- never the question itself


def test_a_question_is_never_its_own_example() -> None:
    index = library([solved("q1", "the very same"), solved("e1", "something else")])
    (found,) = index.retrieve([question("q1", question="the very same")], 5)
    assert [one.example.task_id for one in found.solved] == ["e1"]
    assert not found.verbatim
    assert found.nearest is not None
    assert found.nearest < 0.99, "the question itself is no neighbour, however near"


@pytest.mark.parametrize("text", ["the very same", "The VERY  same", "\tthe\nvery same ", "THE VERY\u00a0SAME"])
def test_the_same_text_is_kept_from_labelled_questions(text: str) -> None:
    examples = [solved("e1", text), solved("e2", "the very other")]
    asked = question("q1", question="the very same")
    assert ids_of(library(examples, exclude="same"), asked, 5) == ["e2"]
    assert ids_of(library(examples, exclude="task_id"), asked, 5) == ["e1", "e2"]
    (found,) = library(examples, exclude="same").retrieve([asked], 5)
    assert found.verbatim, "what is not shown is still said"
    assert found.nearest == pytest.approx(1, abs=1e-3)


def test_other_choices_make_no_other_question() -> None:
    twin = solved("e1", "the very same", ("1", "2", "3"), "C")
    assert ids_of(library([twin], exclude="same"), question("q1", question="the very same"), 5) == []


def test_copies_are_passed_over_for_the_next_ones() -> None:
    """More copies than are wanted: what stands behind them is still found."""
    copies = [solved(f"c{n}", "the very same") for n in range(20)]
    index = library([*copies, solved("e1", "the very other")], exclude="same")
    assert ids_of(index, question("q1", question="the very same"), 2) == ["e1"]


def test_near_copies_are_dropped_where_the_recipe_says_so() -> None:
    places = {"asked": angle(0), "near": angle(13), "far": angle(15)}  # cosines of 0.974 and 0.966; twins from 0.97 on
    examples = [solved("near", "near"), solved("far", "far")]
    assert ids_of(library(examples, Placed(places)), ASKED, 2) == ["near", "far"]
    assert ids_of(library(examples, Placed(places), near_duplicates="drop"), ASKED, 2) == ["far"]


@pytest.mark.parametrize(
    ("settings", "labelled", "exclude"),
    [
        ({}, True, "same"),
        ({}, False, "task_id"),
        ({"exclude": "task_id"}, True, "task_id"),
        ({"exclude": "same"}, False, "same"),
    ],
)
def test_the_default_rule_excludes_copies_where_labels_are(
    settings: dict[str, str], labelled: bool, exclude: str
) -> None:
    assert SelectionPolicy.of(ExampleSettings.model_validate(settings), labelled).exclude == exclude


# --- which ones, and in what order


@pytest.mark.parametrize(("least", "seen"), [(0.99, 0), (0.9, 1), (0.6, 2), (0.49, 3), (-1, 4)])
def test_nothing_below_the_least_similarity_is_given(least: float, seen: int) -> None:
    (found,) = around(min_similarity=least).retrieve([ASKED], 4)
    assert [one.example.task_id for one in found.solved] == ["e10", "e35", "e60", "e80"][:seen]
    assert found.nearest == pytest.approx(0.9848, abs=1e-3), "said whether it is shown or not"


def test_of_equally_near_examples_the_first_stored_is_first() -> None:
    examples = [solved(name, "equal words") for name in ("e9", "e3", "e7", "e1", "e5")]
    asked = question("q1", question="equal words here")
    for shard in (2, 3, 100):
        assert ids_of(library(examples, shard=shard), asked, 4) == ["e9", "e3", "e7", "e1"]


@given(st.permutations(range(6)), st.lists(st.floats(-4e-6, 4e-6), min_size=6, max_size=6))
def test_what_differs_by_rounding_alone_is_equally_near(order: list[int], noise: list[float]) -> None:
    """A cosine's last digits depend on what else was embedded in the same batch; order must not."""
    candidates = [Candidate(row, 0.25 + noise[row], f"e{row}", "") for row in order]
    assert [one.row for one in ranked(candidates)] == list(range(6))
    vectors = np.eye(6, dtype=np.float32)
    picked = diverse(ranked(candidates), vectors, 0.5, 3)
    assert [one.row for one in picked] == [0, 1, 2]


PLACES = {
    "asked": (1.0, 0.0, 0.0),
    "first": (0.9, 0.44, 0.0),
    "alike": (0.89, 0.45, 0.0),  # as near as the first, and almost the same
    "unlike": (0.8, -0.6, 0.0),
    "aside": (0.7, 0.0, 0.71),
}


def test_diversity_picks_unlike_ones() -> None:
    examples = [solved(name, name) for name in PLACES if name != "asked"]
    assert ids_of(library(examples, Placed(PLACES)), ASKED, 3) == ["first", "alike", "unlike"]
    assert ids_of(library(examples, Placed(PLACES), diversity=0.5), ASKED, 3) == ["first", "unlike", "aside"]
    assert ids_of(library(examples, Placed(PLACES), diversity=0.5), ASKED, 1) == ["first"]
    assert sorted(ids_of(library(examples, Placed(PLACES), diversity=0.9), ASKED, 9)) == sorted(
        PLACES.keys() - {"asked"}
    )


def test_diversity_still_shows_the_nearest_first() -> None:
    places = {"asked": (1.0, 0, 0), "a": (0.95, 0.3, 0), "b": (0.2, -1, 0), "c": (0.5, 0, 0.9)}
    examples = [solved(name, name) for name in "bca"]
    (found,) = library(examples, Placed(places), diversity=0.8).retrieve([ASKED], 3)
    similarities = [one.similarity for one in found.solved]
    assert similarities == sorted(similarities, reverse=True)


words = st.lists(st.sampled_from(["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]), min_size=1, max_size=5).map(
    " ".join
)


@given(st.lists(words, min_size=1, max_size=30), words, st.integers(1, 8), st.integers(1, 30))
def test_shards_change_nothing(texts: list[str], asked: str, most: int, shard: int) -> None:
    examples = [solved(f"e{n}", text) for n, text in enumerate(texts)]
    one = question("q", question=asked)
    assert ids_of(library(examples, shard=shard), one, most) == ids_of(library(examples), one, most)


@given(st.lists(words, min_size=1, max_size=30), words, st.integers(1, 8), st.sampled_from(["same", "task_id"]))
def test_what_is_given_is_what_comparing_with_all_gives(texts: list[str], asked: str, most: int, exclude: str) -> None:
    examples = [solved(f"e{n}", text) for n, text in enumerate(texts)]
    seen = [one for one in examples if exclude != "same" or one.question != asked]
    query, *rows = HashingEncoder().encode([asked, *(one.question for one in seen)])
    by_nearness = sorted(range(len(seen)), key=lambda n: (-round(float(query @ rows[n]), 3), n))
    expected = [seen[n].task_id for n in by_nearness[:most]]
    # rounded as stored vectors are: what is equally near may stand in either order here
    found = ids_of(library(examples, exclude=exclude), question("q", question=asked), most)
    assert len(found) == len(expected)
    similarity = {one.task_id: round(float(query @ row), 3) for one, row in zip(seen, rows, strict=True)}
    assert [similarity[name] for name in found] == pytest.approx([similarity[name] for name in expected], abs=2e-3)


# --- what is embedded


def test_the_text_that_is_embedded_is_what_the_recipe_says() -> None:
    examples = [solved("q-words", "loop over lists", ("x", "y")), solved("c-words", "z", ("loop", "over lists"))]
    asked = question("q1", question="loop over lists", choices=("loop", "over lists"))
    both = ExampleSettings(text="question+choices")
    (alone,) = library(examples).retrieve([asked], 2)
    (whole,) = library(examples, settings=both).retrieve([asked], 2)
    assert [one.example.task_id for one in alone.solved] == ["q-words", "c-words"]
    assert alone.solved[0].similarity == pytest.approx(1, abs=1e-3)
    assert whole.solved[0].similarity < 0.99


# --- vectors that are none


def test_a_vector_that_is_not_finite_is_an_error_with_its_text() -> None:
    index = library([solved("e1", "loop")])
    with pytest.raises(ValueError, match=f"not finite for 'a {BROKEN}'"):
        index.retrieve([question("q0", question="loop"), question("q1", question=f"a {BROKEN}")], 1)
    near = index.retrieve([question("q1", question="loop", choices=("fine", BROKEN))], 1)
    with pytest.raises(ValueError, match="not finite"):
        index.transferred(near)


def test_an_embedder_of_another_length_is_an_error() -> None:
    index = library([solved("e1", "loop")], asks_with=Placed({"loop": (1.0,)}))
    with pytest.raises(ValueError, match="2 dimensions, the index has 256"):
        index.retrieve([question("q", question="loop")], 1)


class Counting:
    """A hashing encoder that keeps what it was asked to embed."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> Vectors:
        """See Encoder."""
        self.asked += texts
        return HashingEncoder().encode(texts)


def test_equal_texts_are_embedded_once() -> None:
    counting = Counting()
    index = library([solved("e1", "loop")], asks_with=counting)
    asked = [question(f"q{n}", question="loop", choices=("True", "False")) for n in range(5)]
    said = index.transferred(index.retrieve(asked, 1))
    assert counting.asked == ["loop", "True", "False"]
    assert len(said) == 5


# --- answers by transfer


def test_transfer_gives_a_distribution_over_the_choices() -> None:
    index = library([solved("e1", "pick a pet", ("a cat", "a stone"), "A")])
    asked = [
        question("q1", question="pick a pet", choices=("one stone", "one cat", "one cloud")),
        question("q2", question="pick a pet", choices=("cat", "stone")),
    ]
    first, second = index.transferred(index.retrieve(asked, 4))
    assert (first.shape, second.shape) == ((3,), (2,))
    assert np.exp(first).sum() == pytest.approx(1)
    assert (int(first.argmax()), int(second.argmax())) == (1, 0)


# --- questions that something is fitted on, which are examples themselves


def test_an_example_that_is_fitted_on_is_not_its_own_nearest() -> None:
    index = library([solved("asked", "asked"), solved("e35", "e35"), solved("e60", "e60")], Placed(AROUND))
    (as_question,) = index.retrieve([ASKED], 2)
    (as_fit,) = index.retrieve([question("fit/asked", question="asked")], 2)
    assert as_fit.nearest == as_question.nearest == pytest.approx(0.8192, abs=1e-3)
    assert not as_fit.verbatim
    assert [one.example.task_id for one in as_fit.solved] == ["e35", "e60"]


def test_an_example_fitted_on_does_not_see_its_twins() -> None:
    twin = solved("twin", "asked", ASKED.choices)
    index = library([solved("asked", "asked", ASKED.choices), twin, solved("e35", "e35")], Placed(AROUND))
    (as_fit,) = index.retrieve([question("fit/asked", question="asked")], 2)
    assert as_fit.nearest == pytest.approx(0.8192, abs=1e-3)
    assert not as_fit.verbatim
    (other,) = index.retrieve([question("q", question="asked")], 2)
    assert other.nearest == pytest.approx(1.0, abs=1e-3)
    assert other.verbatim


def test_hundreds_of_copies_do_not_hide_what_is_behind_them() -> None:
    copies = [solved(f"c{n}", "asked", (f"one {n}", f"two {n}")) for n in range(200)]
    index = library(
        [*copies, *(solved(name, name) for name in ("e35", "e60", "e80"))], Placed(AROUND), near_duplicates="drop"
    )
    assert ids_of(index, ASKED, 3) == ["e35", "e60", "e80"]
