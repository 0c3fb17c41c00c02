"""The real engine on the CPU: one, shared by all tests here."""

import asyncio
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.engine import adapters, chat, watchdog
from codemmlu.engine.adapters import Adapter
from codemmlu.engine.hardware import Resources
from codemmlu.engine.memory import GIB, Layout, cache_bytes, shape_of
from codemmlu.engine.placement import place
from codemmlu.engine.protocol import DoesNotFit, EngineSettings, Sampling
from codemmlu.engine.sources import cache_folder, materialise
from codemmlu.engine.vllm_engine import VllmEngine, open_vllm
from codemmlu.errors import UserError
from codemmlu.prompts import TEMPLATES, Prompt, render, render_check, render_thought
from codemmlu.recipe import ModelSettings
from codemmlu.rows import Question, Reading, letters
from codemmlu.scoring import is_finite, orders, p_true

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
    lora = adapters.engine_arguments([Adapter("some", "where", 4), Adapter("else", "where", 2)])
    arguments = place("m", settings, Resources(cpus=2)).arguments | lora

    async def opened() -> VllmEngine:
        found = open_vllm(EngineSettings("embedded", cache_folder(), arguments))
        assert isinstance(found, VllmEngine)
        return found

    one = runner.run(opened())
    runner.run(one.check(ask("Which one?", 4)))
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


def test_the_planned_cache_is_what_vllm_makes_of_its_memory(engine: VllmEngine) -> None:
    """One GiB was given: so many tokens, in whole blocks, are what both say."""
    config = json.loads(Path(materialise("embedded", cache_folder()), "config.json").read_text())
    shape = shape_of(config)
    assert shape
    cache: Any = engine._llm.vllm_config.cache_config
    width = engine._llm.model_config.dtype.itemsize  # of a CPU that is not good at bfloat16 four bytes
    planned = GIB // (cache_bytes(shape, Layout(), width) * cache.block_size)
    assert cache.num_gpu_blocks == planned


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


def write_adapter(folder: Path, seed: int) -> None:
    """A random LoRA of rank 4 for every query and value projection of the embedded model, as peft writes it."""
    import torch
    from safetensors.torch import save_file

    model = json.loads(Path(materialise("embedded", cache_folder()), "config.json").read_text())
    size, heads, kv_heads = model["hidden_size"], model["num_attention_heads"], model["num_key_value_heads"]
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(model["num_hidden_layers"]):
        for name, width in (("q_proj", size), ("v_proj", size * kv_heads // heads)):
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{key}.lora_A.weight"] = 0.08 * torch.randn(4, size, generator=random)
            weights[f"{key}.lora_B.weight"] = 0.08 * torch.randn(width, 4, generator=random)
    folder.mkdir(parents=True)
    save_file(weights, folder / adapters.WEIGHTS)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"}
    (folder / adapters.CONFIG).write_text(json.dumps(config | {"target_modules": ["q_proj", "v_proj"]}))


def merged(folder: Path) -> Any:
    """The embedded model with an adapter's weights, if there are any, added to its own, in float32."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(materialise("embedded", cache_folder()), dtype=torch.float32).eval()
    weights = load_file(folder / adapters.WEIGHTS) if folder.is_dir() else {}
    for key in [key for key in weights if ".lora_A." in key]:
        module = model.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        module.weight.data += 8 / 4 * weights[key.replace("lora_A", "lora_B")] @ weights[key]
    return model


def test_adapters_are_served_beside_the_model(runner: asyncio.Runner, engine: VllmEngine, tmp_path: Path) -> None:
    """Asked together, the model and two adapters each answer as they do alone in transformers."""
    import torch

    folders = [tmp_path / "none", tmp_path / "one" / "adapter", tmp_path / "two" / "adapter"]
    for seed, folder in enumerate(folders[1:]):
        write_adapter(folder, seed)
        assert adapters.inspect(str(folder), "voters.x.adapter").rank == 4
    names = ["", *map(str, folders[1:])]
    prompts = [ask(f"What does `print({i})` print?" + " Think." * i, 4) for i in range(3)]

    async def together() -> list[Reading]:
        return list(await asyncio.gather(*(engine.score(prompt, name) for prompt in prompts for name in names)))

    found = runner.run(together())
    models = [merged(folder) for folder in folders]
    for prompt, readings in zip(prompts, zip(*[iter(found)] * 3, strict=True), strict=True):
        text, tokens = chat.encode(engine._tokenizer, prompt)
        ids = [chat.letter_token(engine._tokenizer, text, tokens, prompt.before_letter + name) for name in "ABCD"]
        for name, model, reading in zip(names, models, readings, strict=True):
            with torch.no_grad():
                expected = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)[ids]
            assert reading.logprobs == pytest.approx(expected.tolist(), abs=0.25), name  # bfloat16 against float32
        plain, *adapted = readings
        for reading in adapted:
            assert max(abs(a - b) for a, b in zip(reading.logprobs, plain.logprobs, strict=True)) > 0.3


def test_prompts_that_are_computed_in_parts_keep_their_seeds(runner: asyncio.Runner, engine: VllmEngine) -> None:
    """vLLM drops what it samples amid a prompt, which once ended the engine on a CPU."""
    questions = [Question("t", None, f"x{i} = {i}\n" * 200, ("a", "b"), None, "f", 1) for i in range(4)]
    sampling = Sampling(max_tokens=12, n=2, temperature=0.9, seed=3)

    async def together(some: list[Question], how: Sampling) -> list[tuple[str, ...]]:
        found = await asyncio.gather(*(engine.generate(render_thought(one), how) for one in some))
        return [one.texts for one in found]

    first = runner.run(together(questions, sampling))
    assert all(len(set(texts)) == 2 for texts in first), "two draws of one request differ"
    other = runner.run(together(questions, replace(sampling, seed=4)))
    assert other != first


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


def test_cyclic_readings_sent_together_share_the_question(runner: asyncio.Runner, engine: VllmEngine) -> None:
    question = Question("t", None, "Look:\n" + "y = 2\n" * 150, ("a", "b", "c", "d"), None, "f", 1)
    prompts = [render(question, "codemmlu", order) for order in orders(4, "cyclic", "")]
    readings = score(runner, engine, *prompts)
    computed = sum(reading.prompt_tokens - reading.cached_tokens for reading in readings)
    assert computed < 2 * readings[0].prompt_tokens


def test_words_are_scored_by_their_first_tokens(runner: asyncio.Runner, engine: VllmEngine) -> None:
    question = Question("t", None, "What is 1 + 1?", ("2", "3"), None, "f", 1)
    checks = score(runner, engine, render_check(question, 0), render_check(question, 1))
    assert all(len(check.logprobs) == 2 and is_finite(check) for check in checks)
    assert all(0 < p_true(check) < 1 for check in checks)
    assert checks[0].logprobs != checks[1].logprobs


def test_free_text(runner: asyncio.Runner, engine: VllmEngine) -> None:
    question = Question("t", None, "What is 1 + 1?", ("2", "3"), None, "f", 1)
    prompt = render_thought(question)
    one = runner.run(engine.generate(prompt, Sampling(max_tokens=12)))
    assert len(one.texts) == 1
    assert one.texts[0].strip()
    assert one.generated_tokens <= 12
    assert one.prompt_tokens == engine.tokens(prompt)
    again = runner.run(engine.generate(prompt, Sampling(max_tokens=12)))
    assert again.texts == one.texts
    several = runner.run(engine.generate(prompt, Sampling(max_tokens=12, n=3, temperature=1.0, top_k=50)))
    assert len(several.texts) == 3
    assert len(set(several.texts)) > 1
    assert 12 < several.generated_tokens <= 36


def test_text_ends_where_the_engines_length_does(runner: asyncio.Runner, engine: VllmEngine) -> None:
    long = ask("word " * 1950, 2)
    left = 2048 - engine.tokens(long)
    assert 0 < left < 100
    cut = runner.run(engine.generate(long, Sampling(max_tokens=500)))
    assert cut.generated_tokens <= left
    with pytest.raises(DoesNotFit):
        runner.run(engine.generate(ask("word " * 3000, 2), Sampling(max_tokens=5)))
