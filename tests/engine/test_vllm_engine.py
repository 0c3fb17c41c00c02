"""The real engine on the CPU: one, shared by all tests here, with a tiny model of random weights in float32.

Transformers computes the same model beside it: in float32 the two differ in the fourth digit at most.
"""

import asyncio
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codemmlu.engine import lora, watchdog
from codemmlu.engine.lora import Adapter
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.gpus import Resources
from codemmlu.engine.placement.memory import GIB, ParallelLayout, cache_bytes
from codemmlu.engine.placement.model_facts import shape_of
from codemmlu.engine.placement.placement import place
from codemmlu.engine.protocol import DoesNotFit, EngineSettings, Generation, Sampling
from codemmlu.engine.vllm_engine import VllmEngine, open_vllm
from codemmlu.errors import UserError
from codemmlu.mcq import TEMPLATES, Prompt, is_finite, orders, render, render_check, render_thought
from codemmlu.recipe import ModelSettings
from codemmlu.schema import Question, Reading
from tests.support import adapters
from tests.support.tiny_model import tiny_model
from tests.support.transformers_engine import CLOSE, TransformersEngine

pytestmark = pytest.mark.engine

HARD = "f'{x!r}'\0 <|im_end|> {{braces}}\t\u202e \U0001f600 \"quotes\" \\n\r\n    indented"
LENGTH = 2048  # tokens that the engine takes, prompt and answer
PART = 256  # tokens that the engine computes at once: longer prompts are computed in parts


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's directory."""
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny", spread=0.15)


@pytest.fixture(scope="module")
def reference(folder: Path) -> TransformersEngine:
    """The same model in transformers."""
    return TransformersEngine(folder)


@pytest.fixture(scope="module")
def engine(runner: asyncio.Runner, folder: Path) -> Iterator[VllmEngine]:
    watchdog.start("test-engine")
    settings = ModelSettings(
        source=str(folder),
        dtype="float32",
        max_model_len=LENGTH,
        cpu_kv_cache_gib=1,
        engine={"max_num_batched_tokens": PART},
    )
    adapters = lora.engine_arguments([Adapter("some", "where", 4), Adapter("else", "where", 2)])
    arguments = place("m", settings, Resources(cpus=2)).arguments | adapters

    async def opened() -> VllmEngine:
        found = open_vllm(EngineSettings(str(folder), cache_folder(), arguments))
        assert isinstance(found, VllmEngine)
        return found

    one = runner.run(opened())
    runner.run(one.check(ask("Which one?", 4)))
    assert watchdog.marked("test-engine"), "the engine's processes do not carry the mark"
    yield one
    one.close()
    one.close()  # twice does no harm
    for _ in range(600):
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
    return render(question_of(text, n), template)


def question_of(text: str, n: int) -> Question:
    return Question("t", None, text, tuple(f"choice {i}" for i in range(n)), None, "f", 1)


def score(runner: asyncio.Runner, engine: VllmEngine, *prompts: Prompt) -> list[Reading]:
    async def all_at_once() -> list[Reading]:
        return list(await asyncio.gather(*(engine.score(prompt) for prompt in prompts)))

    return runner.run(all_at_once())


def generate(runner: asyncio.Runner, engine: VllmEngine, sampling: Sampling, *prompts: Prompt) -> list[Generation]:
    async def all_at_once() -> list[Generation]:
        return list(await asyncio.gather(*(engine.generate(prompt, sampling) for prompt in prompts)))

    return runner.run(all_at_once())


def test_the_planned_cache_is_what_vllm_allocates(engine: VllmEngine, folder: Path) -> None:
    """One GiB was given: so many tokens, in whole blocks, are what both say."""
    shape = shape_of(json.loads((folder / "config.json").read_text()))
    assert shape
    cache: Any = engine._llm.vllm_config.cache_config
    width = engine._llm.model_config.dtype.itemsize
    planned = GIB // (cache_bytes(shape, ParallelLayout(), width) * cache.block_size)
    assert cache.num_gpu_blocks == planned


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


def test_readings_agree_with_transformers(
    runner: asyncio.Runner, engine: VllmEngine, reference: TransformersEngine
) -> None:
    """The raw log-probabilities are the model's own: over the full vocabulary, before any mask or temperature.

    Of a check the words TRUE and FALSE are read, by their first tokens. `mass` is the probability of all together.
    """
    prompts = [ask(f"What is {i} + {i}?", 4, template) for i in range(4) for template in TEMPLATES]
    prompts += [render_check(question_of("What is 1 + 1?", 2), number) for number in (0, 1)]
    spreads = []
    for prompt, reading in zip(prompts, score(runner, engine, *prompts), strict=True):
        expected = runner.run(reference.score(prompt))
        assert reading.order == prompt.order
        assert reading.prompt_tokens == expected.prompt_tokens
        assert reading.logprobs == pytest.approx(expected.logprobs, abs=CLOSE)
        assert reading.mass == pytest.approx(expected.mass, rel=CLOSE)
        if not prompt.words:
            spreads.append(max(expected.logprobs) - min(expected.logprobs))
    assert min(spreads) > 20 * CLOSE, "letters that are all alike show nothing"


def write_adapter(model: Path, folder: Path, seed: int) -> None:
    """Write a random LoRA of rank 4 for every query and value projection of a model, as peft does."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())
    size, heads, kv_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for name, width in (("q_proj", size), ("v_proj", size * kv_heads // heads)):
            key = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            weights[f"{key}.lora_A.weight"] = 0.2 * torch.randn(4, size, generator=random)
            weights[f"{key}.lora_B.weight"] = 0.2 * torch.randn(width, 4, generator=random)
    folder.mkdir(parents=True)
    save_file(weights, folder / lora.WEIGHTS)
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "bias": "none"}
    (folder / lora.CONFIG).write_text(json.dumps(config | {"target_modules": ["q_proj", "v_proj"]}))


def merged(model: Path, adapter: Path) -> TransformersEngine:
    """Return a model in transformers with an adapter's weights added to its own."""
    from safetensors.torch import load_file

    engine = TransformersEngine(model)
    weights = load_file(adapter / lora.WEIGHTS)
    for key in [key for key in weights if ".lora_A." in key]:
        module = engine.model.get_submodule(key.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
        module.weight.data += 8 / 4 * weights[key.replace("lora_A", "lora_B")] @ weights[key]
    return engine


def test_adapters_are_served_beside_the_model(
    runner: asyncio.Runner, engine: VllmEngine, folder: Path, reference: TransformersEngine, tmp_path: Path
) -> None:
    """Asked together, the model and two adapters each answer as they do alone in transformers."""
    folders = [tmp_path / "one" / "adapter", tmp_path / "two" / "adapter"]
    for seed, one in enumerate(folders):
        write_adapter(folder, one, seed)
        assert lora.validate(str(one), "voters.x.adapter").rank == 4
    models = {"": reference, **{str(one): merged(folder, one) for one in folders}}
    asked = [(ask(f"What does `print({i})` print?" + " Think." * i, 4), name) for i in range(3) for name in models]

    async def together() -> list[Reading]:
        return list(await asyncio.gather(*(engine.score(prompt, name) for prompt, name in asked)))

    for (prompt, name), reading in zip(asked, runner.run(together()), strict=True):
        for other, model in models.items():
            expected = runner.run(model.score(prompt)).logprobs
            gap = max(abs(a - b) for a, b in zip(reading.logprobs, expected, strict=True))
            assert (gap < CLOSE) if other == name else (gap > 50 * CLOSE), (name, other)


def test_an_adapter_that_answers_nothing_of_its_own_is_refused(
    runner: asyncio.Runner, engine: VllmEngine, folder: Path, tmp_path: Path
) -> None:
    """vLLM refuses the one and takes the other in silence; its engine goes on after both."""
    good, wide = tmp_path / "good", tmp_path / "wide"
    for one in (good, wide):
        write_adapter(folder, one, seed=7)
    (wide / lora.CONFIG).write_text((wide / lora.CONFIG).read_text().replace('"r": 4', '"r": 4, "use_dora": true'))
    elsewhere = adapters.write_adapter(tmp_path / "elsewhere", adapters.layers("model.language_model."))
    prompt = ask("Which one?", 4)
    runner.run(engine.check_adapter(prompt, str(good)))
    with pytest.raises(UserError, match=r"wide cannot be served with .*DoRA"):
        runner.run(engine.check_adapter(prompt, str(wide)))
    with pytest.raises(UserError, match=r"elsewhere changes nothing of .*: a tiny question has the same"):
        runner.run(engine.check_adapter(prompt, str(elsewhere)))
    assert score(runner, engine, prompt)


def test_a_seed_gives_the_same_texts_in_any_batch(runner: asyncio.Runner, engine: VllmEngine) -> None:
    """Together the prompts are computed in parts, alone they are in the cache already.

    vLLM drops what it samples amid a prompt, which once ended the engine on a CPU.
    """
    prompts = [render_thought(question_of(f"x{i} = {i}\n" * 100, 2)) for i in range(4)]
    assert min(map(engine.tokens, prompts)) > 2 * PART
    sampling = Sampling(max_tokens=12, n=2, temperature=0.9, seed=3)
    together = [one.texts for one in generate(runner, engine, sampling, *prompts)]
    assert all(len(set(texts)) == 2 for texts in together), "two draws of one request differ"
    alone = [generate(runner, engine, sampling, prompt)[0].texts for prompt in reversed(prompts)]
    assert alone[::-1] == together
    others = [one.texts for one in generate(runner, engine, replace(sampling, seed=4), *prompts)]
    assert not {text for texts in others for text in texts} & {text for texts in together for text in texts}


def test_readings_share_their_prefix(runner: asyncio.Runner, engine: VllmEngine) -> None:
    question = question_of("Look at this:\n" + "x = 1\n" * 100, 4)
    score(runner, engine, render(question, "codemmlu"))
    (reading,) = score(runner, engine, render(question, "codemmlu", (3, 0, 1, 2)))
    assert reading.order == (3, 0, 1, 2)
    assert reading.cached_tokens > reading.prompt_tokens / 2


def test_together_is_as_alone(runner: asyncio.Runner, engine: VllmEngine) -> None:
    prompts = [ask(f"Question number {i} about {'loops ' * i}?", 2 + i % 5) for i in range(20)]
    for one, together in zip(prompts, score(runner, engine, *prompts), strict=True):
        (alone,) = score(runner, engine, one)
        assert together.logprobs == pytest.approx(alone.logprobs, abs=CLOSE)


def test_what_does_not_fit_never_reaches_the_engine(runner: asyncio.Runner, engine: VllmEngine) -> None:
    with pytest.raises(DoesNotFit, match=r"the prompt has [\d,]+ tokens, this engine takes 2,047"):
        score(runner, engine, ask("x" * 100_000, 4))


def test_letters_that_are_no_tokens_are_named(runner: asyncio.Runner, engine: VllmEngine) -> None:
    odd = replace(ask("Which?", 2), before_letter=" certainly not a token ")
    with pytest.raises(UserError, match="the letter A is not one token of its own"):
        score(runner, engine, odd)


def test_cyclic_readings_sent_together_share_the_question(runner: asyncio.Runner, engine: VllmEngine) -> None:
    question = question_of("Look:\n" + "y = 2\n" * 150, 4)
    prompts = [render(question, "codemmlu", order) for order in orders(4, "cyclic", "")]
    readings = score(runner, engine, *prompts)
    computed = sum(reading.prompt_tokens - reading.cached_tokens for reading in readings)
    assert computed < 2 * readings[0].prompt_tokens


def test_free_text_agrees_with_transformers(
    runner: asyncio.Runner, engine: VllmEngine, reference: TransformersEngine
) -> None:
    """Without a temperature, the likeliest token follows each time."""
    prompt, sampling = render_thought(question_of("What is 1 + 1?", 2)), Sampling(max_tokens=12)
    expected = runner.run(reference.generate(prompt, sampling))
    (one,) = generate(runner, engine, sampling, prompt)
    assert one.texts == expected.texts
    assert one.prompt_tokens == engine.tokens(prompt) == expected.prompt_tokens
    assert one.generated_tokens == 12


def test_several_free_texts_differ(runner: asyncio.Runner, engine: VllmEngine) -> None:
    prompt = render_thought(question_of("What is 1 + 1?", 2))
    (several,) = generate(runner, engine, Sampling(max_tokens=12, n=3, temperature=1.0, top_k=50), prompt)
    assert len(set(several.texts)) == 3
    assert several.prompt_tokens == 3 * engine.tokens(prompt)
    assert 12 < several.generated_tokens <= 36


def test_free_text_ends_where_the_engines_length_does(runner: asyncio.Runner, engine: VllmEngine) -> None:
    long = ask("word " * (LENGTH - 98), 2)
    left = LENGTH - engine.tokens(long)
    assert 0 < left < 100
    (cut,) = generate(runner, engine, Sampling(max_tokens=500), long)
    assert cut.generated_tokens == left
    with pytest.raises(DoesNotFit):
        generate(runner, engine, Sampling(max_tokens=5), ask("word " * (LENGTH + 1000), 2))
