"""How fast a training step is on this machine, switch by switch, beside what the machine's arithmetic allows.

    python benchmarks/training_speed.py --examples FILE --model SOURCE [--batches 8] [--rounds 3] [--compile] [--json]

Each line adds one switch to the line before. A step is the forward and backward pass of micro-batches as
`jobs/finetune.py` makes them; encoding, the optimizer and the first micro-batch of each line are not counted. Tokens a
second are those of the sequences, however few of them are computed: `computed` is their share.

The limit is 2 x parameters x computed tokens x passes / the rate of a matrix product of the model's own shapes. The
parameters are those of the layers' matrices. LoRA has two passes: the forward one, and the one of gradients to the
activations; a frozen matrix has no gradient of its own, which is the third pass of a full training (`limit of three`
has it for comparison). Checkpointing computes the forward pass twice. Frozen layers have the forward pass alone, and
layers whose states are kept have none.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from codemmlu.dataset.loader import QuestionStream
from codemmlu.engine.hidden_states import decoder_layers
from codemmlu.engine.model_source import cache_folder, resolve
from codemmlu.recipe import FinetuneSettings, QuestionSettings
from codemmlu.schema import Question
from codemmlu.training.backends import load_with_peft, precision
from codemmlu.training.batches import Batch, Collator, lengths_of
from codemmlu.training.encoding import TrainingExample, encode_sft
from codemmlu.training.epochs import build_epochs
from codemmlu.training.frozen import ActivationStore, compile_layers
from codemmlu.training.losses import sequence_losses

# Each line: its name, and the settings that it adds.
LINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("nf4, checkpointing, padded", {"quantization": "nf4", "gradient_checkpointing": True}),
    ("plain weights", {"quantization": "none"}),
    ("no checkpointing", {"gradient_checkpointing": False}),
    ("packed", {"packing": True}),
    ("four orders a step", {"orders": 4}),
    ("lower half frozen", {"frozen_layers": -1}),
    ("its states kept", {"activations_gib": 4.0}),
)
COMPILED = ("compiled", {"compile": True})


@dataclass(frozen=True)
class Line:
    """A measurement.

    Attributes:
        tokens: Tokens of the sequences.
        computed: Tokens that the model computes, with padding and without what is shared.
        seconds: Seconds of the forward and backward passes.
        limit: Seconds that the arithmetic of these passes takes at the machine's rate.
        limit_of_three: The same for a training that has gradients of all matrices.
        loss: The mean loss of the sequences, which the switches of speed must not change.
    """

    tokens: int
    computed: int
    seconds: float
    limit: float
    limit_of_three: float
    loss: float


def gemm_rate(hidden: int, inner: int, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """Return the rate of matrix products of a layer's shape, in operations a second: the best of five."""
    tokens, weights = torch.randn(512, hidden, dtype=dtype), torch.randn(hidden, inner, dtype=dtype)
    best = 0.0
    for _ in range(5):
        began, times = time.monotonic(), 0
        while time.monotonic() - began < seconds / 5:
            tokens @ weights
            times += 1
        best = max(best, times * 2 * tokens.shape[0] * weights.numel() / (time.monotonic() - began))
    return best


def passes(settings: FinetuneSettings, trained: int) -> float:
    """Return the passes of a step through the layers, in passes through all of them; see the top of this file."""
    upper = (trained - settings.frozen_layers) / trained
    lower = (1 - upper) * (settings.activations_gib == 0)
    return upper * (3 if settings.gradient_checkpointing else 2) + lower


def measure(settings: FinetuneSettings, examples: Sequence[Question], source: str, batches: int) -> Line:
    """Measure the micro-batches of one line."""
    torch.manual_seed(0)
    loaded = load_with_peft(source, None, settings, None)
    model, layers = loaded.model, decoder_layers(loaded.model)
    parameters = sum(_matrices(layer) for layer in layers)
    config = model.config.get_text_config()
    rate = gemm_rate(config.hidden_size, config.intermediate_size, next(model.parameters()).dtype)
    count = len(layers)
    store = ActivationStore(model, settings.frozen_layers, settings.activations_gib * 2**30) if (
        settings.activations_gib
    ) else None  # fmt: skip
    if settings.compile:
        compile_layers(model)
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    rows, _ = build_epochs(loaded.tokenizer, [TrainingExample(one) for one in examples], settings, encode_sft)
    collator = Collator(settings.packing, loaded.tokenizer.pad_token_id or 0)
    every = [collator(rows[first : first + settings.batch_size]) for first in range(0, len(rows), settings.batch_size)]
    chosen = _spread(every, batches)
    model.train()
    for batch in chosen if store else chosen[:1]:  # What is kept has been computed once before.
        _step(model, batch, settings, store)
    began = time.monotonic()
    losses = [_step(model, batch, settings, store) for batch in chosen]
    seconds = time.monotonic() - began
    computed = sum(batch["input_ids"].numel() for batch in chosen)
    operations = 2 * parameters * computed
    return Line(
        tokens=sum(int(lengths_of(batch).sum()) for batch in chosen),
        computed=computed,
        seconds=seconds,
        limit=operations * passes(settings, count) / rate,
        limit_of_three=operations * 3 / rate,
        loss=statistics.mean(losses),
    )


def _step(model: Any, batch: Batch, settings: FinetuneSettings, store: ActivationStore | None) -> float:
    model.zero_grad()
    loss = sequence_losses(model, batch, settings.consistency, settings.orders, store).losses.mean()
    loss.backward()
    return float(loss.detach())


def _spread(batches: Sequence[Any], count: int) -> list[Any]:
    """Return some micro-batches of all lengths, in the order of training."""
    step = max(1, len(batches) // count)
    return list(batches[::step][:count])


def _matrices(layer: torch.nn.Module) -> int:
    """Return the parameters of a layer's matrices, without those of LoRA."""
    return sum(
        module.in_features * module.out_features
        for name, module in layer.named_modules()
        if hasattr(module, "in_features") and "lora_" not in name and not hasattr(module, "base_layer")
    )


def lines(compiled: bool, layers: int, batch: int) -> list[tuple[str, FinetuneSettings]]:
    """Return the settings of each line, which add up."""
    settings: dict[str, Any] = {"model": "m", "batch_size": batch, "optimizer": "adamw"}
    result = []
    for name, added in (*LINES, COMPILED) if compiled else LINES:
        settings |= {key: layers // 2 if value == -1 else value for key, value in added.items()}
        result.append((name, FinetuneSettings(**settings)))
    return result


def table(result: dict[str, Any]) -> str:
    """Return the measurements as a table."""
    head = f"{'':28s} {'tokens/s':>9s} {'speed-up':>9s} {'computed':>9s} {'of limit':>9s} {'of three':>9s} {'loss':>7s}"
    rows = [
        f"{name:28s} {line['tokens_per_second']:9.0f} {line['speedup']:9.2f} {line['computed']:9.2f} "
        f"{line['of_limit']:9.2f} {line['of_limit_of_three']:9.2f} {line['loss']:7.3f}"
        for name, line in result["lines"].items()
    ]
    return "\n".join([f"{result['model']}, {result['precision']}, {result['threads']} threads", head, *rows])


def summary(rounds: Sequence[dict[str, Line]]) -> dict[str, Any]:
    """Return each line's median over the rounds, and its speed-up over the first line of the same round."""
    first = next(iter(rounds[0]))
    speed = [{name: line.tokens / line.seconds for name, line in one.items()} for one in rounds]
    return {
        name: {
            "tokens_per_second": statistics.median(one[name] for one in speed),
            "speedup": statistics.median(one[name] / one[first] for one in speed),
            "computed": line.computed / line.tokens,
            "of_limit": statistics.median(one[name].limit / one[name].seconds for one in rounds),
            "of_limit_of_three": statistics.median(one[name].limit_of_three / one[name].seconds for one in rounds),
            "loss": line.loss,
        }
        for name, line in rounds[0].items()
    }


def main() -> None:
    """Measure, and print a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", default="sample", help="a source, as examples.source in a recipe")
    parser.add_argument("--limit", type=int, default=400, help="examples that micro-batches are made of")
    parser.add_argument("--model", default="embedded", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--batches", type=int, default=8, help="micro-batches of each line")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="also with torch.compile, which takes minutes once")
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    arguments = parser.parse_args()
    source = resolve(arguments.model, cache_folder())
    stream = QuestionStream(QuestionSettings(source=arguments.examples, limit=arguments.limit))
    examples = [row for row in stream.rows() if isinstance(row, Question) and row.answer]
    layers = layers_of(source)
    rounds: list[dict[str, Line]] = []
    for number in range(arguments.rounds):
        measured: dict[str, Line] = {}
        for name, settings in lines(arguments.compile, layers, arguments.batch_size):
            measured[name] = measure(settings, examples, source, arguments.batches)
            speed = measured[name].tokens / measured[name].seconds
            print(f"round {number + 1}: {name}: {speed:.0f} tokens/s", file=sys.stderr, flush=True)
        rounds.append(measured)
    result = {
        "model": arguments.model,
        "precision": precision(),
        "threads": torch.get_num_threads(),
        "lines": summary(rounds),
    }
    print(json.dumps(result) if arguments.json else table(result), flush=True)


def layers_of(source: str) -> int:
    """Return the number of a model's layers."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(source).get_text_config().num_hidden_layers)


if __name__ == "__main__":
    main()
