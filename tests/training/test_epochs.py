"""Epochs: weights by kind, several orders of a question in one step, and labels that are shared among letters."""

from collections import Counter
from typing import Any

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.encoding import TrainingExample, encode_sft, soft_label
from codemmlu.training.epochs import build_epochs, sampled_by_kind
from tests.support.rows import question
from tests.training.test_encoding import Characters, questions, said_by

PRINTS = "What is the output of this program?\nint main() { return 0; }"


def settings(**changed: Any) -> FinetuneSettings:
    return FinetuneSettings(model="m", gradient_checkpointing=False, **changed)


def test_a_weight_is_how_often_a_kind_comes() -> None:
    examples = [TrainingExample(question(f"k{n}")) for n in range(200)]
    examples += [TrainingExample(question(f"o{n}", question=f"{PRINTS} // {n}")) for n in range(200)]
    given = settings(kind_weights={"output": 2.5, "knowledge": 0.25})
    for epoch in range(2):
        copies = sampled_by_kind(examples, epoch, given)
        counts = Counter(example.question.task_id[0] for copy in copies for example in copy)
        assert counts["o"] == pytest.approx(500, abs=40)
        assert counts["k"] == pytest.approx(50, abs=25)
        assert all(len({e.question.task_id for e in copy}) == len(copy) for copy in copies)
    assert sampled_by_kind(examples, 0, given) != sampled_by_kind(examples, 1, given), "each epoch draws anew"
    assert sampled_by_kind(examples, 0, settings()) == [examples]


def test_a_copy_shows_an_order_of_its_own() -> None:
    rows, _ = build_epochs(
        Characters(), [TrainingExample(questions(1)[0])], settings(kind_weights={"knowledge": 4}), encode_sft
    )
    assert len({said_by(row) for row in rows}) == 4


def test_orders_of_a_question_are_in_one_micro_batch() -> None:
    examples = [TrainingExample(one) for one in questions(10)]
    given = settings(orders=2, batch_size=4, epochs=2)
    rows, dropped = build_epochs(Characters(), examples, given, encode_sft)
    assert (len(rows), dropped) == (40, 0)
    for first in range(0, 40, 2):
        one, other = (said_by(row) for row in rows[first : first + 2])
        assert one.splitlines()[0] == other.splitlines()[0]
        assert one != other
    assert len({said_by(row) for row in rows}) == 40, "two epochs of two orders show all four"


def test_what_is_too_long_in_one_order_leaves_in_all() -> None:
    examples = [TrainingExample(question("long", question="long " * 400)), TrainingExample(question("short"))]
    rows, dropped = encode_sft(Characters(), examples, 0, settings(orders=2, max_length=700))
    assert (len(rows), dropped) == (2, 1)


def test_a_label_is_shared_by_key_teacher_and_all() -> None:
    one = question("t1", answer="B")
    assert soft_label(TrainingExample(one), settings()) == [0, 1, 0, 0]
    assert soft_label(TrainingExample(one), settings(label_smoothing=0.2)) == pytest.approx([0.05, 0.85, 0.05, 0.05])
    taught = TrainingExample(one, taught=(0.5, 0.3, 0.1, 0.1))
    teacher = {"run": "r", "voter": "v", "weight": 0.5}
    assert soft_label(taught, settings(teacher=teacher)) == pytest.approx([0.25, 0.65, 0.05, 0.05])
    flat = soft_label(taught, settings(teacher={**teacher, "temperature": 100.0}))
    assert flat == pytest.approx([0.125, 0.625, 0.125, 0.125], abs=0.01)
    assert soft_label(TrainingExample(one), settings(teacher=teacher)) == [0, 1, 0, 0], "the teacher does not know it"


def test_shares_stand_at_the_letters_of_their_choices() -> None:
    one = TrainingExample(question("t1", answer="B"))
    for epoch in range(4):
        (row,), _ = encode_sft(Characters(), [one], epoch, settings(label_smoothing=0.2))
        assert row["shares"][row["order"].index(1)] == max(row["shares"])
        assert row["letter_ids"][row["order"].index(1)] == row["labels"][-1]
        assert len(set(row["letter_ids"])) == 4


def test_a_letter_that_is_no_token_has_no_share() -> None:
    class Fewer(Characters):
        def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
            tokens = super().encode(text, add_special_tokens)
            return [*tokens, 0] if text.endswith(" D") else tokens

    one = TrainingExample(question("t1", answer="B"))
    assert encode_sft(Fewer(), [one], None, settings())[1] == 0
    with pytest.raises(UserError, match=r"finetune\.template: D is not one token .* label_smoothing, teacher and"):
        encode_sft(Fewer(), [one], None, settings(label_smoothing=0.1))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"orders": 3}, "orders: 3 do not divide batch_size=8"),
        ({"consistency": 1}, "consistency: compares two orders"),
        ({"activations_gib": 1}, "activations_gib: keeps what frozen layers say"),
        ({"frozen_layers": 1, "start": "x"}, "frozen_layers: finetune.start says"),
        ({"frozen_layers": 1, "gradient_checkpointing": True}, "frozen_layers: gradient checkpointing"),
        ({"objective": "preference", "pairs_from": "x", "packing": True}, "packing: is for objective=answer"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FinetuneSettings(**{"model": "m", "gradient_checkpointing": False, **changed})
