"""Each method's questions per second, next to the floor that its own prompts allow.

    python benchmarks/methods.py --questions FILE --limit N --model SOURCE [--voters one,cyclic,verify] [--json]

ours   `jobs/answer.py recipes/methods.yaml` with one voter, from the first question submitted to the last durable row
floor  plain `vllm.LLM.generate` over exactly the prompts that this asked, in one call and with equal engine arguments:
       turns that had to wait for one another stand side by side, so a conversation cannot be quicker than this

Both in processes of their own, one after the other; start-up is not counted. Beside it stands what a voter's prompts
compute, in prompts of one reading: `computed`, of which the engine's prefix cache saves a part, and for readings in
other orders `bound`, the least that whole blocks allow, where a system prompt that all questions share saves nothing.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codemmlu.cli.dry_run import here
from codemmlu.engine import chat_template, model_source
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.placement import place
from codemmlu.engine.protocol import Sampling
from codemmlu.engine.vllm_engine import dtype_here, seed_of, set_environment
from codemmlu.mcq import Prompt, render, render_after, render_check, render_thought
from codemmlu.recipe import ReasonVoter, SampleVoter, VoterSettings, load
from codemmlu.run_dir import RunDir
from codemmlu.schema import Answer, Question, answer_from, letters, question_from

ROOT = Path(__file__).parents[1]
RECIPE = str(ROOT / "recipes/methods.yaml")

# A prompt, and how text is written after it; None: its letters or words are read.
Request = tuple[Prompt, Sampling | None]


def _readings(question: Question, answer: Answer, voter: VoterSettings) -> Iterator[Request]:
    template = getattr(voter, "template", "codemmlu")
    yield from ((render(question, template, reading.order), None) for reading in answer.readings)


def _conversation(question: Question, answer: Answer, voter: VoterSettings) -> Iterator[Request]:
    yield from _readings(question, answer, voter)
    names = letters(len(question.choices))
    checks = [turn.letter for turn in answer.turns if turn.kind == "check" and turn.letter]
    yield from ((render_check(question, names.index(letter)), None) for letter in checks)


def _thought(question: Question, answer: Answer, voter: VoterSettings) -> Iterator[Request]:
    assert isinstance(voter, ReasonVoter)
    asked = render_thought(question)
    yield asked, Sampling(max_tokens=voter.max_tokens)
    yield render_after(asked, answer.turns[0].text, question, voter.template), None


def _replies(question: Question, answer: Answer, voter: VoterSettings) -> Iterator[Request]:
    assert isinstance(voter, SampleVoter)
    names = ("max_tokens", "n", "temperature", "top_k", "top_p", "repetition_penalty")
    free = replace(render(question, voter.template), prefill="", before_letter="")
    yield free, Sampling(**{name: getattr(voter, name) for name in names})
    yield from _readings(question, answer, voter)


REQUESTS: dict[str, Callable[[Question, Answer, VoterSettings], Iterator[Request]]] = {
    "direct": _readings,
    "verify": _conversation,
    "verify-rank": _conversation,
    "reason": _thought,
    "sample": _replies,
}


def ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """The job as a person runs it, its clock read from what it wrote."""
    overrides = [f"questions.source={arguments.questions}", f"models.qwen.source={arguments.model}"]
    overrides += [f"voters=[{arguments.voter}]", f"out={arguments.out}"]
    overrides += [f"questions.limit={arguments.limit}"] if arguments.limit else []
    subprocess.run([sys.executable, str(ROOT / "jobs/answer.py"), RECIPE, *overrides], check=True, stdout=sys.stderr)
    run = RunDir(arguments.out)
    rows = [row for _, row in stored(run)]
    durable = max(Path(run.path(name)).stat().st_mtime for name in run.files("answers/qwen"))
    seconds = durable - min(row.started for row in rows)
    computed = sum(row.prompt_tokens - row.cached_tokens for row in rows)
    return {"questions": len(rows), "seconds": seconds, "computed": computed}


def stored(run: RunDir) -> list[tuple[Question, Answer]]:
    """A run's questions in the order in which they are asked, each with its answer."""
    (voter,) = json.loads(run.read("report.json"))["voters"].values()
    rows = [row for name in run.files("answers/qwen") for row in run.read_table(name).to_pylist()]
    answers = {row["task_id"]: answer_from(row) for row in rows if row["ask"] == voter["ask"]}
    asked = [question_from(row) for name in run.files("questions") for row in run.read_table(name).to_pylist()]
    return [(question, answers[question.task_id]) for question in asked]


def floor(arguments: argparse.Namespace) -> dict[str, Any]:
    """LLM.generate over all prompts of a run in one call, after a warm-up of one prompt."""
    recipe = load(RECIPE, [])
    voter = recipe.voters[arguments.voter]
    pairs = stored(RunDir(arguments.out))
    requests = [one for question, answer in pairs for one in REQUESTS[voter.method](question, answer, voter)]
    settings = recipe.models["qwen"].model_copy(update={"source": arguments.model})
    model = model_source.resolve(arguments.model, cache_folder())
    given = place("qwen", settings, here()).arguments
    given |= {"dtype": dtype_here(model, here().device, given)}
    set_environment(here().device, given)
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    engine = LLM(
        model=model,
        disable_log_stats=True,
        use_tqdm_on_load=False,
        **given,
    )
    tokenizer = engine.get_tokenizer()
    found: dict[str, list[int]] = {}

    def ids(prompt: Prompt, text: str, tokens: list[int]) -> list[int]:
        names = prompt.words or tuple(letters(26))
        end = f"{text[-20:]} {names}"
        if end not in found:
            firsts = [chat_template.first_token(tokenizer, text, tokens, prompt.before_letter + name) for name in names]
            found[end] = [first for first in firsts if first is not None]
        return found[end][: len(prompt.order)]

    def ask(some: Sequence[Request]) -> None:
        inputs, samplings = [], []
        for prompt, sampling in some:
            text, tokens = chat_template.encode(tokenizer, prompt)
            inputs.append(TokensPrompt(prompt_token_ids=tokens))
            if sampling:
                samplings.append(SamplingParams(**{**asdict(sampling), "seed": seed_of(tokens, sampling.seed)}))
            else:
                wanted = ids(prompt, text, tokens)
                samplings.append(
                    SamplingParams(max_tokens=1, temperature=0, detokenize=False, logprob_token_ids=wanted)
                )
        engine.generate(inputs, samplings, use_tqdm=False)

    ask(requests[-1:])
    began = time.monotonic()
    ask(requests)
    seconds = time.monotonic() - began
    one, bound = _tokens(tokenizer, pairs, voter, int(given.get("block_size", 16)))
    return {
        "questions": len(pairs),
        "seconds": seconds,
        "requests": len(requests),
        "one": one,
        "bound": None if bound is None else bound / one,
    }


def _tokens(
    tokenizer: Any, pairs: Sequence[tuple[Question, Answer]], voter: VoterSettings, block: int
) -> tuple[int, int | None]:
    """Tokens of one reading of every question, and the fewest that its readings in other orders compute: each after
    the first what comes after the whole blocks that it shares with one of those before it."""
    template = getattr(voter, "template", "codemmlu")
    one = least = 0
    shared = _common([chat_template.encode(tokenizer, render(question, template))[1] for question, _ in pairs[:50]])
    for question, answer in pairs:
        prompts = [chat_template.encode(tokenizer, render(question, template, r.order))[1] for r in answer.readings]
        one += len(chat_template.encode(tokenizer, render(question, template))[1])
        for number, tokens in enumerate(prompts):
            most = max((_common([tokens, before]) for before in prompts[:number]), default=0)
            least += len(tokens) - (most // block * block if most > shared else 0)
    return one, least if voter.method == "direct" else None


def _common(several: Sequence[Sequence[int]]) -> int:
    """How many tokens several prompts begin with alike."""
    alike = (len(set(column)) == 1 for column in zip(*several, strict=False))
    return sum(itertools.takewhile(bool, alike))


WAYS = {"ours": ours, "floor": floor}


def measure(way: str, voter: str, out: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One way in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--voter", voter, "--out", out]
    command += ["--questions", arguments.questions, "--model", arguments.model]
    command += ["--limit", str(arguments.limit)] if arguments.limit else []
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{way} failed with exit code {done.returncode}")
    figures: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    figures["questions_per_second"] = figures["questions"] / figures["seconds"]
    print(f"{voter} {way}: {figures['questions_per_second']:.2f} questions/s", file=sys.stderr, flush=True)
    return figures


def compare(voter: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The rounds of one voter; the floor repeats the prompts of the round's own run."""
    rounds = []
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as out:
            rounds.append({way: measure(way, voter, out, arguments) for way in WAYS})
    ratios = [one["ours"]["questions_per_second"] / one["floor"]["questions_per_second"] for one in rounds]
    last = rounds[-1]["floor"]
    computed = statistics.median(one["ours"]["computed"] / one["floor"]["one"] for one in rounds)
    return {
        **{way: statistics.median(one[way]["questions_per_second"] for one in rounds) for way in WAYS},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "computed": computed,
        **{name: last[name] for name in ("questions", "requests", "bound")},
    }


def main() -> None:
    """Measures, and prints a table or one object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", default="sample", help="a source, as questions.source in a recipe")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--model", default="embedded", help="a source, as models.NAME.source in a recipe")
    parser.add_argument("--voters", default="one,cyclic,verify", help="of recipes/methods.yaml")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object on one line, last on stdout")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--voter", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(WAYS[arguments.way](arguments)), flush=True)
        return
    result = {voter: compare(voter, arguments) for voter in arguments.voters.split(",")}
    if arguments.json:
        print(json.dumps(result), flush=True)
        return
    for voter, one in result.items():
        bound = "" if one["bound"] is None else f" (bound {one['bound']:.2f})"
        print(
            f"{voter:12s} {one['ours']:6.2f} of {one['floor']:6.2f} questions/s: {one['ratio']:.3f}; "
            f"{one['requests'] / one['questions']:.1f} prompts a question, {one['computed']:.2f} computed{bound}"
        )


if __name__ == "__main__":
    main()
