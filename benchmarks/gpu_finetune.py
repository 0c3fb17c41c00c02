"""How fast each finetuning backend trains, in how much memory, and how the loss falls. Made for one NVIDIA GPU.

    python benchmarks/gpu_finetune.py --examples FILE --model SOURCE [--steps 20] [--json] [finetune.key=value ...]

`jobs/finetune.py recipes/finetune-0.5b.yaml` for a fixed number of steps with each backend that runs here, one after
the other, in processes of their own. Tokens a second are those of the loop, loading not counted. On a CPU it runs, too.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from codemmlu.dataset import QuestionSet
from codemmlu.recipe import load
from codemmlu.training.training_set import build_training_set

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "recipes/finetune-0.5b.yaml")
BACKENDS = ("peft", "unsloth")


def fixed(steps: int, overrides: list[str]) -> list[str]:
    """What makes it so many steps, or as near to it as whole epochs are: few examples come more often."""
    recipe = load(RECIPE, overrides)
    assert recipe.finetune
    sequences = steps * recipe.finetune.batch_size * recipe.finetune.accumulation
    epochs = math.ceil(sequences / build_training_set(recipe.finetune, recipe.seed, QuestionSet(recipe)).train)
    return [f"finetune.epochs={epochs}", f"finetune.limit={math.ceil(sequences / epochs)}"]


def measure(backend: str, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """One backend; None where it cannot run here."""
    with tempfile.TemporaryDirectory() as out:
        overrides = [f"examples.source={arguments.examples}", f"models.qwen.source={arguments.model}", f"out={out}"]
        overrides += ["finetune.evaluations=1", "finetune.tune_limit=32", *arguments.overrides]
        overrides += fixed(arguments.steps, [*overrides, "finetune.limit=null"])
        command = [sys.executable, str(ROOT / "jobs/finetune.py"), RECIPE]
        command += [*overrides, f"finetune.backend={backend}", "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"{backend}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            return None
        manifest: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    losses = [point["loss"] for point in manifest["train"]]
    return {
        "device": manifest["device"],
        "steps": manifest["steps"],
        "tokens_per_second": manifest["tokens_per_second"],
        "memory_gib": manifest["memory_gib"],
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "tune_loss": [point["loss"] for point in manifest["tune"]],
    }


def main() -> None:
    """Measures, and prints a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", default="sample", help="a source, as examples.source in a recipe")
    parser.add_argument("--model", default="embedded", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    parser.add_argument("overrides", nargs="*", metavar="finetune.key=value")
    arguments = parser.parse_intermixed_args()
    result = {backend: one for backend in BACKENDS if (one := measure(backend, arguments))}
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    for backend, one in result.items():
        print(
            f"{backend:8s} {one['tokens_per_second']:10,.0f} tokens/s  {one['memory_gib']:6.2f} GiB  loss "
            f"{one['first_loss']:.3f} -> {one['last_loss']:.3f} in {one['steps']} steps on {one['device']}"
        )


if __name__ == "__main__":
    main()
