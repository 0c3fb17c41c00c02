"""The answer job on one NVIDIA GPU: how fast, what share of the engine's own limit, and the memory plan and reality.

    python benchmarks/gpu_answer.py --questions FILE --limit N --model SOURCE [--rounds 3] [--json]

Speed is measured as benchmarks/throughput.py does. Then one engine is started with the arguments of the plan, and says
how much memory its weights take and how many tokens its KV cache holds. On a CPU it runs, too, but for the weights.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import throughput
from codemmlu.cli.dry_run import here
from codemmlu.engine import model_source
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.memory import GIB, ParallelLayout, cache_bytes
from codemmlu.engine.placement.placement import place
from codemmlu.engine.vllm_engine import set_environment
from codemmlu.recipe import ModelSettings


def planned(source: str) -> dict[str, Any]:
    """What the plan says of the model on this machine: GiB of weights, of everything, and tokens in the KV cache."""
    settings = ModelSettings(source=source)
    known = model_source.known(source, None, cache_folder())
    placement = place("model", settings, here(), known)
    if placement.memory:
        memory = placement.memory
        return {"weights_gib": memory.weights, "sum_gib": memory.sum, "cache_tokens": memory.cache_tokens}
    shape = known.shape if known else None
    weights = known.weight_bytes if known else None
    held = settings.cpu_kv_cache_gib
    width = 4 if throughput.engine_arguments(argparse.Namespace(model=source))["dtype"] == "float32" else 2
    return {
        "weights_gib": None if weights is None else weights / GIB,
        "sum_gib": None if weights is None else weights / GIB + held,
        "cache_tokens": None if shape is None else int(held * GIB / cache_bytes(shape, ParallelLayout(), width)),
    }


def found(source: str) -> dict[str, Any]:
    """What an engine of that plan says once it has started."""
    given = throughput.engine_arguments(argparse.Namespace(model=source))
    set_environment(here().device, given)
    os.environ["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # a function of ours is sent to its worker
    from vllm import LLM

    engine: Any = LLM(
        model=model_source.resolve(source, cache_folder()), disable_log_stats=True, use_tqdm_on_load=False, **given
    )
    cache = engine.llm_engine.vllm_config.cache_config
    # On a CPU vLLM packs the layers' weights into places that no parameter shows: a fifth of them would be found.
    weights = engine.collective_rpc(_weights)[0] if here().gpus else None
    return {
        "weights_gib": weights and weights / GIB,
        "sum_gib": _used_gib(),
        "cache_tokens": cache.num_gpu_blocks * cache.block_size,
    }


def _weights(worker: Any) -> int:
    model = worker.get_model()
    return sum({one.data_ptr(): one.numel() * one.element_size() for one in model.parameters()}.values())


def _used_gib() -> float | None:
    """Of the first GPU, by its driver; None without one."""
    if not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


def started(source: str) -> dict[str, Any]:
    """`found`, in a process of its own."""
    command = [sys.executable, __file__, "--look", "--model", source]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    said: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return said


def main() -> None:
    """Measures, and prints a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", default="sample", help="a source, as questions.source in a recipe")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--model", default="embedded", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.look:
        print(json.dumps(found(arguments.model)), flush=True)
        return
    rounds = []
    for number in range(arguments.rounds):
        order = ["floor", "ours"] if number % 2 == 0 else ["ours", "floor"]
        rounds.append({way: throughput.measure(way, arguments) for way in order})
    speed = {way: statistics.median(one[way]["questions_per_second"] for one in rounds) for way in ("floor", "ours")}
    shares = [one["ours"]["questions_per_second"] / one["floor"]["questions_per_second"] for one in rounds]
    tokens = rounds[0]["ours"]["tokens"] / rounds[0]["ours"]["questions"]
    result = {
        "device": str(here()),
        "model": arguments.model,
        "questions_per_second": speed["ours"],
        "tokens_per_second": speed["ours"] * tokens,
        "floor": speed["floor"],
        "share_of_floor": statistics.median(shares),
        "shares": shares,
        "planned": planned(arguments.model),
        "found": started(arguments.model),
    }
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    print(f"{result['model']} on {result['device']}")
    print(f"{speed['ours']:.1f} questions/s, {result['tokens_per_second']:,.0f} prompt tokens/s")
    print(f"{result['share_of_floor']:.3f} of the engine's own limit, {speed['floor']:.1f} questions/s")
    for name, value in result["planned"].items():
        shown = ["-" if one is None else f"{one:,.2f}" for one in (value, result["found"][name])]
        print(f"{name:14s} planned {shown[0]:>12s}   found {shown[1]:>12s}")


if __name__ == "__main__":
    main()
