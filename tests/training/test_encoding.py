"""Lessons: each epoch another order, the loss on the letter alone, nothing cut, and the same order every time."""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.schema import Question, letters
from codemmlu.training.encoding import (
    IGNORED,
    TrainingExample,
    encode_preference,
    encode_sft,
    examples_from_table,
    examples_to_table,
    order_of,
)
from codemmlu.training.epochs import build_epochs, by_length
from tests.support.rows import question

SETTINGS = FinetuneSettings(model="m", epochs=4, batch_size=2)


class Characters:
    """A tokenizer of one token a character, and of one for a blank with its letter; without a chat template."""

    chat_template = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [int.from_bytes(piece.encode()) for piece in re.findall(r" [A-Z](?!\w)|.", text, re.DOTALL)]


def text_of(tokens: list[int]) -> str:
    """Tokens as text."""
    return "".join(token.to_bytes(2).lstrip(b"\0").decode() for token in tokens)


def said_by(row: dict[str, list[int]]) -> str:
    """A sequence as text."""
    return text_of(row["input_ids"])


def questions(count: int) -> list[Question]:
    return [
        question(f"t{n}", question=f"What does {n} print?" + " again" * (n % 5), answer="ABCD"[n % 4])
        for n in range(count)
    ]


def settings(**changed: Any) -> FinetuneSettings:
    return SETTINGS.model_copy(update=changed)


def test_over_the_epochs_the_right_choice_stands_at_every_letter() -> None:
    for one in questions(20):
        right = letters(4).index(one.answer or "")
        assert {order_of(one, epoch, SETTINGS).index(right) for epoch in range(4)} == {0, 1, 2, 3}


def test_letters_are_balanced_within_an_epoch() -> None:
    many = [question(f"t{n}", answer="A") for n in range(400)]
    at = Counter(order_of(one, 0, SETTINGS).index(0) for one in many)
    assert min(at.values()) > 60, "a file whose answers are all A teaches nothing about A"


def test_without_reordering_choices_stand_as_they_are() -> None:
    assert order_of(questions(1)[0], 3, settings(reorder=False)) == (0, 1, 2, 3)


def test_the_loss_is_on_the_right_letter_alone() -> None:
    (row,), dropped = encode_sft(Characters(), [TrainingExample(questions(2)[1])], None, SETTINGS)
    assert dropped == 0
    assert row["labels"][:-1] == [IGNORED] * (len(row["labels"]) - 1)
    assert len(row["labels"]) == len(row["input_ids"])
    assert said_by(row).endswith("Answer: B")


def test_a_letter_names_the_choice_that_stands_there() -> None:
    one = questions(4)[2]
    for epoch in range(4):
        (row,), _ = encode_sft(Characters(), [TrainingExample(one)], epoch, SETTINGS)
        said = said_by(row)
        letter = said[-1]
        assert f"\n{letter}. three\n" in said, "C is `three`, wherever it is shown"


def test_what_is_too_long_is_left_out_and_never_cut() -> None:
    short, long = question("t1", question="short"), question("t2", question="long " * 400)
    rows, dropped = encode_sft(
        Characters(), [TrainingExample(short), TrainingExample(long)], 0, settings(max_length=600)
    )
    assert (len(rows), dropped) == (1, 1)
    assert rows[0]["labels"][-1] != IGNORED


def test_what_is_too_long_sheds_its_most_distant_examples_first() -> None:
    near, far = question("near", question="near one"), question("far", question="far " * 100)
    (row,), dropped = encode_sft(
        Characters(), [TrainingExample(questions(1)[0], (far, near))], 0, settings(max_length=700)
    )
    said = said_by(row)
    assert (dropped, "near one" in said, "far" in said) == (0, True, False)


def test_an_epoch_has_every_lesson_once_in_a_reproducible_order() -> None:
    its = [TrainingExample(one) for one in questions(11)]
    rows, _ = build_epochs(Characters(), its, SETTINGS, encode_sft)
    assert rows == build_epochs(Characters(), its, SETTINGS, encode_sft)[0]
    assert len(rows) == 44
    assert rows != build_epochs(Characters(), its, settings(seed=1), encode_sft)[0]
    first, second = rows[:22], rows[22:]
    assert first != second


def test_micro_batches_hold_sequences_of_about_one_length() -> None:
    rows = [{"input_ids": [0] * (1 + n * 7 % 64), "labels": []} for n in range(64)]
    whole, rest = by_length(rows, 4, "ab")
    assert len(whole) == 64
    assert rest == []
    spread = [
        max(lengths) - min(lengths)
        for start in range(0, 64, 4)
        for lengths in [[len(row["input_ids"]) for row in whole[start : start + 4]]]
    ]
    assert max(spread) <= 4
    assert [len(row["input_ids"]) for row in whole] != sorted(len(row["input_ids"]) for row in whole)


def test_an_incomplete_micro_batch_waits_for_the_next_epoch() -> None:
    whole, rest = by_length([{"input_ids": [n], "labels": []} for n in range(7)], 3, "ab")
    assert (len(whole), len(rest)) == (6, 1)


def test_neighbours_are_shown_nearest_last_and_some_withheld() -> None:
    some = questions(200)
    table = examples_to_table(
        some, ["train"] * 199 + ["tune"], [[(n + 1) % 200, (n + 2) % 200] for n in range(200)], {}
    )
    its = examples_from_table(table, "train", settings(examples=2, withhold=0.25))
    assert all(lesson.shown in ((), (some[(n + 2) % 200], some[(n + 1) % 200])) for n, lesson in enumerate(its))
    without = sum(not lesson.shown for lesson in its)
    assert 30 < without < 70
    (tuned,) = examples_from_table(table, "tune", settings(examples=1, withhold=1.0))
    assert tuned.shown == (some[0],), "the tune part is asked as voters ask"


def test_pairs_set_the_right_letter_against_the_wrong_one() -> None:
    lesson = TrainingExample(question("t1", answer="B"), rejected=3)
    for epoch in range(4):
        (row,), _ = encode_preference(Characters(), [lesson], epoch, SETTINGS)
        shown = {line[0]: line[3:] for line in text_of(row["prompt_ids"]).splitlines() if line[1:3] == ". "}
        assert shown[text_of(row["chosen_ids"]).strip()] == "two"
        assert shown[text_of(row["rejected_ids"]).strip()] == "four"
    assert encode_preference(Characters(), [lesson], 0, settings(max_length=20)) == ([], 1)


def test_a_letter_must_be_one_token_after_the_template() -> None:
    class Merging(Characters):
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            return [len(text)]

    with pytest.raises(UserError, match=r"finetune\.template: B is not one token"):
        encode_sft(Merging(), [TrainingExample(replace(questions(1)[0], answer="B"))], None, SETTINGS)
