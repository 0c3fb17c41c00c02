"""Switches of speed change a loss by rounding alone: packing, shared beginnings, frozen layers, kept states, compiling.

Libraries that take seconds to import are imported late, as every process of the tests collects this file.
"""

import math
from pathlib import Path
from typing import Any

import pytest

from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.encoding import TrainingExample, encode_sft
from tests.support.rows import question
from tests.support.tiny_model import tiny_model

SPREAD = 0.15  # of random weights: every prompt prefers other letters


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model."""
    return tiny_model(tmp_path_factory.mktemp("tiny"), SPREAD)


def settings(**changed: Any) -> FinetuneSettings:
    return FinetuneSettings(
        model="m", quantization="none", gradient_checkpointing=False, rank=4, **{"batch_size": 8, **changed}
    )


def loaded(folder: Path, **changed: Any) -> Any:
    """The model with LoRA weights that have learnt something."""
    import torch

    from codemmlu.training.backends import load_with_peft

    torch.manual_seed(0)
    found = load_with_peft(str(folder), None, settings(**changed), None)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in found.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return found


def rows_of(folder: Path, orders: int = 2, **changed: Any) -> list[Any]:
    """The sequences of three questions of other lengths, each in some orders."""
    from transformers import AutoTokenizer

    texts = ("What is it?", "Which of these names is a colour, and which are not?", "Why " * 30)
    examples = [TrainingExample(question(f"t{n}", question=text, answer="ABC"[n])) for n, text in enumerate(texts)]
    given = settings(orders=orders, **changed)
    return encode_sft(AutoTokenizer.from_pretrained(folder), examples, 0, given)[0]


def loss_and_gradient(model: Any, batch: Any, store: Any = None) -> tuple[Any, Any]:
    """The losses of the sequences, and the gradients of all weights together."""
    import torch

    from codemmlu.training.losses import sequence_losses

    model.train()
    model.zero_grad()
    losses = sequence_losses(model, batch, store=store).losses
    losses.sum().backward()
    gradients = [p.grad.flatten() for _, p in sorted(model.named_parameters()) if p.grad is not None]
    return losses.detach(), torch.cat(gradients)


def assert_equal(one: Any, other: Any) -> None:
    """Equal to within rounding."""
    import torch

    for ours, theirs in zip(one, other, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


@pytest.mark.parametrize("row", [1024, 150])
def test_packed_sequences_have_the_losses_that_they_have_alone(
    folder: Path, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from codemmlu.training import batches

    monkeypatch.setattr(batches, "_ROW", row)
    model, rows = loaded(folder).model, rows_of(folder)
    alone = [loss_and_gradient(model, batches.Collator()([one])) for one in rows]
    wanted = torch.cat([losses for losses, _ in alone]), sum(gradient for _, gradient in alone)
    assert_equal(loss_and_gradient(model, batches.Collator()(rows)), wanted)
    packed = batches.Collator(packing=True)(rows)
    assert_equal(loss_and_gradient(model, packed), wanted)
    assert (len(packed["input_ids"]) > 1) == (row == 150), "a row holds what has room"


def test_what_orders_begin_with_alike_is_computed_once(folder: Path) -> None:
    from codemmlu.training.batches import Collator, lengths_of

    rows = rows_of(folder, orders=4, batch_size=8)
    padded, packed = Collator()(rows), Collator(packing=True)(rows)
    assert lengths_of(packed).tolist() == lengths_of(padded).tolist() == [len(row["input_ids"]) - 1 for row in rows]
    assert packed["input_ids"].numel() < 0.6 * lengths_of(padded).sum() < padded["input_ids"].numel()


def test_frozen_layers_have_no_weights_and_no_gradient(folder: Path) -> None:
    model = loaded(folder, frozen_layers=1).model
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".layers.1." in name for name in trained)
    with pytest.raises(UserError, match=r"finetune\.frozen_layers: 2 of 2 layers leaves none to train"):
        loaded(folder, frozen_layers=2)


@pytest.mark.parametrize("packing", [False, True])
def test_kept_states_of_frozen_layers_change_nothing(folder: Path, packing: bool) -> None:
    from codemmlu.training.batches import Collator
    from codemmlu.training.frozen import ActivationStore

    batch = Collator(packing)(rows_of(folder))
    wanted = loss_and_gradient(loaded(folder, frozen_layers=1).model, batch)
    model = loaded(folder, frozen_layers=1).model
    store = ActivationStore(model, 1, limit=2**20)
    other = Collator(packing)(rows_of(folder)[::-1])
    assert_equal(loss_and_gradient(model, batch, store), wanted)
    assert_equal(loss_and_gradient(model, batch, store), wanted)
    assert_equal([loss_and_gradient(model, other, store)[0].flip(0)], [wanted[0]])
    assert (store.misses, store.hits) == (6, 12), "a text is known in any batch"
    small = ActivationStore(loaded(folder, frozen_layers=1).model, 1, limit=0)
    small.keep(batch)
    assert not small.inputs(None, batch).keys() - {"input_ids"}


def test_compiled_layers_change_nothing(folder: Path) -> None:
    """With dynamo alone: compiling for the CPU takes minutes."""
    from codemmlu.training.batches import Collator
    from codemmlu.training.frozen import compile_layers

    batch = Collator(packing=True)(rows_of(folder))
    wanted = loss_and_gradient(loaded(folder).model, batch)
    model = loaded(folder).model
    compile_layers(model, backend="eager")
    assert_equal(loss_and_gradient(model, batch), wanted)


def test_a_shared_label_is_a_weighted_sum_of_letters(folder: Path) -> None:
    import torch

    from codemmlu.training.batches import Collator
    from codemmlu.training.losses import last_logits, sequence_losses

    model = loaded(folder).model.eval()
    batch = Collator()(rows_of(folder, label_smoothing=0.2))
    with torch.no_grad():
        losses = sequence_losses(model, batch).losses
        logs = torch.log_softmax(last_logits(model, batch), dim=-1)
    for loss, row, log in zip(losses, rows_of(folder, label_smoothing=0.2), logs, strict=True):
        of_letters = log[row["letter_ids"]].double()
        assert float(loss) == pytest.approx(float(-(torch.tensor(row["shares"]).double() * of_letters).sum()), rel=1e-5)


def test_orders_that_say_the_same_do_not_diverge() -> None:
    import torch

    from codemmlu.training.losses import divergences

    letter_ids = torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, -1], [0, 1, -1]])
    order = torch.tensor([[0, 1, 2], [1, 2, 0], [0, 1, -1], [1, 0, -1]])
    logits = torch.tensor([[3.0, 1.0, 2.0, 9.0], [1.0, 2.0, 3.0, 0.0], [1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    found = divergences(logits.requires_grad_(), {"letter_ids": letter_ids, "order": order}, 2)
    first, second = math.e / (1 + math.e), 1 / (1 + math.e)
    assert found[:2].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert found[2:].tolist() == pytest.approx([first - second] * 2, rel=1e-5), "KL of two mirrored pairs"
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_a_step_of_two_orders_learns_to_agree(folder: Path) -> None:
    import torch

    from codemmlu.training.batches import Collator
    from codemmlu.training.losses import divergences, last_logits, sequence_losses

    model = loaded(folder).model
    batch = Collator(packing=True)(rows_of(folder, consistency=1))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=0.01)

    def apart() -> float:
        with torch.no_grad():
            return float(divergences(last_logits(model, batch), batch, 2).mean())

    before = apart()
    for _ in range(8):
        optimizer.zero_grad()
        sequence_losses(model, batch, consistency=20.0, orders=2).losses.mean().backward()
        optimizer.step()
    assert apart() < 0.5 * before
