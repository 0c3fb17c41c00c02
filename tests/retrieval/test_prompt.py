"""Examples in a prompt: which of the nearest are shown, within their budget and the engine's length."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemmlu.engine.scripted import Script
from codemmlu.inference.methods import nearest_last, select_examples
from codemmlu.inference.spec import InferenceSpec
from codemmlu.mcq import Prompt, render
from codemmlu.retrieval.answer_transfer import RetrievedExample
from tests.support.engines import RecordingEngine
from tests.support.example_indexes import solved
from tests.support.rows import ASK, question

ASKED = question("q", question="this one is asked")
NO_VECTORS = np.zeros((2, 1), dtype=np.float32)


class Short(RecordingEngine):
    """An engine that takes prompts of at most so many words."""

    def __init__(self, most: int) -> None:
        super().__init__(Script())
        self._most = most

    def fits(self, tokens: int) -> bool:
        """See Engine."""
        return tokens <= self._most


ROOMY = Short(10_000)
ALONE = ROOMY.tokens(render(ASKED, "codemmlu"))


def asking(examples: int, tokens: int = 10_000) -> InferenceSpec:
    return replace(ASK, examples=examples, neighbours=2 * examples, tokens=tokens, index="i")


def near(*lengths: int) -> list[RetrievedExample]:
    """Neighbours, nearest first: of so many words each, named by their place."""
    return [
        RetrievedExample(solved(f"e{n}", " ".join([f"#e{n}", *["word"] * (length - 1)])), 0.9 - n / 100, NO_VECTORS)
        for n, length in enumerate(lengths)
    ]


def cost(length: int) -> int:
    """How many words an example of so many words makes a prompt longer."""
    (one,) = near(length)
    return ROOMY.tokens(render(ASKED, "codemmlu", examples=[one.example])) - ALONE


def shown(
    engine: RecordingEngine, ask: InferenceSpec, neighbours: Sequence[RetrievedExample]
) -> tuple[Prompt, list[str]]:
    """The prompt, and the task_ids that it is said to show, nearest first."""
    names = select_examples(engine, ask, ASKED, neighbours)
    prompt = render(ASKED, ask.template, examples=nearest_last(names))
    return prompt, [one.example.task_id for one in names]


def in_prompt(prompt: Prompt) -> list[str]:
    """The examples that really stand there, from top to bottom."""
    users = [message.content for message in prompt.messages if message.role == "user"][:-1]
    return [next(word.removeprefix("#") for word in text.split() if word.startswith("#e")) for text in users]


def test_the_nearest_are_shown_and_the_best_stands_last() -> None:
    prompt, names = shown(ROOMY, asking(3), near(5, 5, 5, 5, 5, 5))
    assert names == ["e0", "e1", "e2"]
    assert in_prompt(prompt) == ["e2", "e1", "e0"]
    assert prompt.messages[-1] == render(ASKED, "codemmlu").messages[0]


def test_each_example_says_its_own_right_letter() -> None:
    wrong_way = RetrievedExample(replace(near(4)[0].example, answer="B"), 0.9, NO_VECTORS)
    prompt, _ = shown(ROOMY, asking(2), [wrong_way, near(4, 4)[1]])
    assert [message.content for message in prompt.messages if message.role == "assistant"] == ["Answer: A", "Answer: B"]


def test_an_example_that_is_too_long_makes_room_for_the_next() -> None:
    ask = asking(2, tokens=2 * cost(10))
    assert shown(ROOMY, ask, near(10, 500, 10, 10))[1] == ["e0", "e2"]
    assert shown(ROOMY, ask, near(500, 500, 10, 10))[1] == ["e2", "e3"]


@pytest.mark.parametrize(("budget", "names"), [(0, ["e0", "e1"]), (-1, ["e0"])])
def test_the_budget_is_of_all_examples_together(budget: int, names: list[str]) -> None:
    assert shown(ROOMY, asking(2, tokens=2 * cost(10) + budget), near(10, 10))[1] == names


def test_where_no_example_fits_the_question_stands_alone() -> None:
    for engine, ask in ((ROOMY, asking(3, tokens=1)), (Short(ALONE), asking(3))):
        prompt, names = shown(engine, ask, near(10, 10, 10))
        assert names == []
        assert prompt == render(ASKED, "codemmlu")


def test_examples_keep_a_prompt_within_the_engine_s_length() -> None:
    neighbours = near(10, 200, 10, 10)
    assert shown(Short(ALONE + 2 * cost(10)), asking(4), neighbours)[1] == ["e0", "e2"]
    assert shown(Short(ALONE + 2 * cost(10) - 1), asking(4), neighbours)[1] == ["e0"]


def test_a_question_too_long_by_itself_goes_to_the_engine() -> None:
    """It is the engine that says so, as for a question without examples."""
    assert shown(Short(1), asking(3), near(5, 5)) == (render(ASKED, "codemmlu"), [])


def test_without_neighbours_the_prompt_is_the_questions_own() -> None:
    assert shown(ROOMY, asking(3), []) == (render(ASKED, "codemmlu"), [])
    assert shown(ROOMY, ASK, near(5)) == (render(ASKED, "codemmlu"), [])


lengths = st.lists(st.integers(1, 40), max_size=8)


@given(lengths, st.integers(1, 5), st.integers(1, 300), st.integers(1, 400))
def test_what_is_shown_is_the_nearest_that_fits(many: list[int], most: int, tokens: int, room: int) -> None:
    prompt, names = shown(Short(room), asking(most, tokens), near(*many))
    left = min(tokens, room - ALONE)
    expected: list[str] = []
    for place, length in enumerate(many):
        if len(expected) < most and cost(length) <= left:
            left -= cost(length)
            expected.append(f"e{place}")
    assert names == expected
    assert in_prompt(prompt) == expected[::-1]
    assert "this one is asked" in prompt.messages[-1].content
