"""The real engine on the CPU: one, shared by all tests here."""

import asyncio
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codemmlu.engine import chat, watchdog
from codemmlu.engine.placement import Resources, place
from codemmlu.engine.protocol import DoesNotFit, EngineSettings
from codemmlu.engine.sources import cache_folder, materialise
from codemmlu.engine.vllm_engine import VllmEngine, open_vllm
from codemmlu.errors import UserError
from codemmlu.prompts import TEMPLATES, Prompt, render
from codemmlu.recipe import ModelSettings
from codemmlu.rows import Question, Reading, letters
from codemmlu.scoring import is_finite

pytestmark = pytest.mark.engine

HARD = "f'{x!r}'\0 <|im_end|> {{braces}}\t\u202e \U0001f600 \"quotes\" \\n\r\n    indented"


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def engine(runner: asyncio.Runner) -> Iterator[VllmEngine]:
    watchdog.start("test-engine")
    settings = ModelSettings(source="embedded", max_model_len=2048, cpu_kv_cache_gib=1)
    arguments = place("m", settings, Resources(cpus=2)).arguments

    async def opened() -> VllmEngine:
        found = open_vllm(EngineSettings("embedded", cache_folder(), arguments))
        assert isinstance(found, VllmEngine)
        return found

    one = runner.run(opened())
    assert watchdog.marked("test-engine"), "the engine's processes do not carry the mark"
    yield one
    one.close()
    one.close()  # twice does no harm
    for _ in range(100):
        # multiprocessing's tracker of this process carries the mark, too, and ends with it
        left = [pid for pid in watchdog.marked("test-engine") if b"resource_tracker" not in command_of(pid)]
        if not left:
            break
        time.sleep(0.1)
    assert not left, "the engine left processes behind"
    os.environ.pop(watchdog.MARK)


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"resource_tracker"  # it ended meanwhile


def ask(text: str, n: int, template: str = "codemmlu") -> Prompt:
    return render(Question("t", None, text, tuple(f"choice {i}" for i in range(n)), None, "f", 1), template)


def score(runner: asyncio.Runner, engine: VllmEngine, *prompts: Prompt) -> list[Reading]:
    async def all_at_once() -> list[Reading]:
        return list(await asyncio.gather(*(engine.score(prompt) for prompt in prompts)))

    return runner.run(all_at_once())


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("n", [2, 4, 26])
def test_every_letter_is_one_token_and_finite(
    runner: asyncio.Runner, engine: VllmEngine, template: str, n: int
) -> None:
    runner.run(engine.check(ask("Which one?", n, template)))
    (reading,) = score(runner, engine, ask(HARD, n, template))
    assert reading.order == tuple(range(n))
    assert len(reading.logprobs) == n
    assert is_finite(reading)
    assert reading.mass == pytest.approx(min(1.0, sum(map(math.exp, reading.logprobs))))


def test_letters_agree_with_transformers(runner: asyncio.Runner, engine: VllmEngine) -> None:
    """The raw log-probabilities are the model's own: over the full vocabulary, before any mask or temperature."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = materialise("embedded", cache_folder())
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    prompts = [ask(f"What is {i} + {i}?", 4, template) for i in range(4) for template in TEMPLATES]
    for prompt, reading in zip(prompts, score(runner, engine, *prompts), strict=True):
        text, tokens = chat.encode(tokenizer, prompt)
        assert reading.prompt_tokens == len(tokens)
        with torch.no_grad():
            expected = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
        for letter, found in zip(prompt.letters, reading.logprobs, strict=True):
            token = chat.letter_token(tokenizer, text, tokens, prompt.before_letter + letter)
            assert found == pytest.approx(float(expected[token]), abs=0.25)  # bfloat16 against float32


def test_readings_share_their_prefix(runner: asyncio.Runner, engine: VllmEngine) -> None:
    long = ask("Look at this:\n" + "x = 1\n" * 100, 4)
    question = Question("t", None, "Look at this:\n" + "x = 1\n" * 100, ("a", "b", "c", "d"), None, "f", 1)
    score(runner, engine, long)
    (reading,) = score(runner, engine, render(question, "codemmlu", (3, 0, 1, 2)))
    assert reading.order == (3, 0, 1, 2)
    assert reading.cached_tokens > reading.prompt_tokens / 2


def test_together_is_as_alone(runner: asyncio.Runner, engine: VllmEngine) -> None:
    prompts = [ask(f"Question number {i} about {'loops ' * i}?", 2 + i % 5) for i in range(20)]
    for one, together in zip(prompts, score(runner, engine, *prompts), strict=True):
        (alone,) = score(runner, engine, one)
        assert together.logprobs == pytest.approx(alone.logprobs, abs=0.25)


def test_what_does_not_fit_never_reaches_the_engine(runner: asyncio.Runner, engine: VllmEngine) -> None:
    with pytest.raises(DoesNotFit, match=r"the prompt has [\d,]+ tokens, this engine takes 2,047"):
        score(runner, engine, ask("x" * 100_000, 4))


def test_letters_that_are_no_tokens_are_named(runner: asyncio.Runner, engine: VllmEngine) -> None:
    odd = replace(ask("Which?", 2), before_letter=" certainly not a token ")
    with pytest.raises(UserError, match="the letter A is not one token of its own"):
        score(runner, engine, odd)


def test_base_model_gets_plain_words() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(materialise("embedded", cache_folder()))
    tokenizer.chat_template = None
    prompt = ask("Which?", 3)
    text, tokens = chat.encode(tokenizer, prompt)
    assert text == f"{prompt.messages[0].content}\n\nAnswer:"
    assert all(chat.letter_token(tokenizer, text, tokens, f" {letter}") for letter in letters(3))


def test_embedded_model_is_converted_once() -> None:
    first = Path(materialise("embedded", cache_folder()))
    made = (first / "model.safetensors").stat().st_mtime_ns
    assert Path(materialise("embedded", cache_folder())) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
