"""Questions per second of this project's job, next to the engine's own limit and to asking one question at a time.

    python benchmarks/throughput.py --questions FILE --limit N --model SOURCE [--rounds 3] [--json]

Three ways answer the same prompts, in the same order (longest first), with the same model and equal engine arguments,
each in processes of its own:

floor      plain `vllm.LLM.generate` over all prompts in one call; like the others it tokenises on the clock
ours       `jobs/answer.py`, from the first question submitted to the last durable row
reference  transformers, one question at a time, as the reference project's notebooks do

Start-up is not counted. floor and ours alternate; `ratio` is the median of ours / floor over the rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from codemmlu.cli.dry_run import here
from codemmlu.dataset import QuestionStream
from codemmlu.engine import chat_template, model_source
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.placement import place
from codemmlu.engine.vllm_engine import dtype_here, set_environment
from codemmlu.mcq import Prompt, render
from codemmlu.recipe import ModelSettings, QuestionSettings
from codemmlu.run_dir import RunDir
from codemmlu.schema import Question, letters

TEMPLATE = "codemmlu"
ROOT = Path(__file__).parents[1]


def prompts(arguments: argparse.Namespace) -> list[Prompt]:
    """The prompts of the first N questions, longest question first, as the job asks them."""
    loaded = QuestionStream(QuestionSettings(source=arguments.questions, limit=arguments.limit))
    rows = [row for row in loaded.rows() if isinstance(row, Question)]
    rows.sort(key=lambda q: (-len(q.question) - sum(map(len, q.choices)), q.position))
    return [render(row, TEMPLATE) for row in rows]


def engine_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the job's engine is given on this machine."""
    settings = ModelSettings(source=arguments.model)
    known = model_source.known(arguments.model, None, cache_folder())
    given = place("model", settings, here(), known).arguments
    model = model_source.resolve(arguments.model, cache_folder())
    return given | {"dtype": dtype_here(model, here().device, given)}


def floor(arguments: argparse.Namespace) -> dict[str, Any]:
    """LLM.generate: everything in one call, after a warm-up of one prompt."""
    model = model_source.resolve(arguments.model, cache_folder())
    given = engine_arguments(arguments)
    set_environment(here().device, given)
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    engine = LLM(model=model, disable_log_stats=True, use_tqdm_on_load=False, **given)
    tokenizer = engine.get_tokenizer()
    asked = prompts(arguments)
    text, tokens = chat_template.encode(tokenizer, asked[-1])
    ids = [
        chat_template.letter_token(tokenizer, text, tokens, asked[-1].before_letter + letter) for letter in letters(26)
    ]

    def ask(some: list[Prompt]) -> int:
        inputs = [TokensPrompt(prompt_token_ids=chat_template.encode(tokenizer, prompt)[1]) for prompt in some]
        samplings = [
            SamplingParams(max_tokens=1, temperature=0, detokenize=False, logprob_token_ids=ids[: len(prompt.order)])
            for prompt in some
        ]
        engine.generate(inputs, samplings, use_tqdm=False)
        return sum(len(one["prompt_token_ids"]) for one in inputs)

    ask(asked[-1:])
    began = time.monotonic()
    counted = ask(asked)
    return {"questions": len(asked), "seconds": time.monotonic() - began, "tokens": counted}


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """The job as a person runs it, its clock read from what it wrote."""
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch, "recipe.yaml")
        voter = {"model": "model", "method": "direct", "template": TEMPLATE}
        recipe.write_text(
            json.dumps(
                {
                    "out": f"{scratch}/run",
                    "questions": {"source": arguments.questions, "limit": arguments.limit},
                    # One engine, as the floor has: on a machine of several GPUs there would be one on each.
                    "models": {"model": {"source": arguments.model, "replicas": 1}},
                    "voters": {"direct": voter},
                }
            )
        )
        subprocess.run([sys.executable, str(ROOT / "jobs/answer.py"), str(recipe)], check=True, stdout=sys.stderr)
        run = RunDir(f"{scratch}/run")
        files = run.files("answers/model")
        rows = [row for name in files for row in run.read_table(name, ["started", "prompt_tokens"]).to_pylist()]
        durable = max(Path(run.path(name)).stat().st_mtime for name in files)
        seconds = durable - min(row["started"] for row in rows)
        return {"questions": len(rows), "seconds": seconds, "tokens": sum(row["prompt_tokens"] for row in rows)}


def reference(arguments: argparse.Namespace) -> dict[str, Any]:
    """transformers' generate, one question after the other."""
    model_path = model_source.resolve(arguments.model, cache_folder())
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=engine_arguments(arguments)["dtype"]).eval()
    asked = prompts(arguments)

    def ask(prompt: Prompt) -> int:
        tokens = chat_template.encode(tokenizer, prompt)[1]
        model.generate(torch.tensor([tokens]), max_new_tokens=1, do_sample=False, pad_token_id=0)
        return len(tokens)

    ask(asked[-1])
    began = time.monotonic()
    counted = sum(map(ask, asked))
    return {"questions": len(asked), "seconds": time.monotonic() - began, "tokens": counted}


WAYS = {"floor": floor, "ours": ours, "reference": reference}


def measure(way: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One way in a process of its own: its own figures and its peak memory in GiB (proportional set size)."""
    command = [sys.executable, __file__, "--way", way, "--questions", arguments.questions, "--model", arguments.model]
    if arguments.limit:
        command += ["--limit", str(arguments.limit)]
    with tempfile.TemporaryFile("w+") as out:
        process = psutil.Popen(command, stdout=out)
        peak = [0]
        watcher = threading.Thread(target=_watch_memory, args=(process, peak), daemon=True)
        watcher.start()
        if process.wait():
            raise SystemExit(f"{way} failed with exit code {process.returncode}")
        out.seek(0)
        said = [line for line in out.read().splitlines() if line.startswith("{")]  # libraries print after the end, too
    figures: dict[str, Any] = json.loads(said[-1])
    figures["questions_per_second"] = figures["questions"] / figures["seconds"]
    figures["memory_gib"] = peak[0] / 2**30
    print(f"{way:10s} {figures['questions_per_second']:7.2f} questions/s", file=sys.stderr, flush=True)
    return figures


def _watch_memory(process: psutil.Process, peak: list[int]) -> None:
    while process.is_running():
        total = 0
        for one in [process, *process.children(recursive=True)]:
            try:
                total += one.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)
        time.sleep(30)  # reading the maps of a dozen processes is not free


def main() -> None:
    """Measures, and prints a table on stderr and one object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", default="sample", help="a source, as questions.source in a recipe")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--model", default="embedded", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(WAYS[arguments.way](arguments)), flush=True)
        return
    rounds = []
    for number in range(arguments.rounds):
        order = ["floor", "ours"] if number % 2 == 0 else ["ours", "floor"]
        rounds.append({way: measure(way, arguments) for way in order})
    one_by_one = measure("reference", arguments)
    ratios = [r["ours"]["questions_per_second"] / r["floor"]["questions_per_second"] for r in rounds]
    best = {way: statistics.median(r[way]["questions_per_second"] for r in rounds) for way in ("floor", "ours")}
    result = {
        **best,
        "reference": one_by_one["questions_per_second"],
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "questions": one_by_one["questions"],
        "prompt_tokens": one_by_one["tokens"],
        "memory_gib": {
            **{way: max(r[way]["memory_gib"] for r in rounds) for way in ("floor", "ours")},
            "reference": one_by_one["memory_gib"],
        },
        "engine": engine_arguments(arguments),
    }
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    print(f"{result['questions']:,} questions, {result['prompt_tokens']:,} prompt tokens; {result['engine']}")
    for way in WAYS:
        print(f"{way:10s} {result[way]:7.2f} questions/s  {result['memory_gib'][way]:5.2f} GiB")
    print(f"ours / floor: {result['ratio']:.3f} (median of {', '.join(f'{r:.3f}' for r in ratios)})")


if __name__ == "__main__":
    main()
