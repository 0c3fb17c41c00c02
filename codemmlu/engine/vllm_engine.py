"""The vLLM engine: the only module that knows vLLM, opened inside the actor that serves it.

Scoring is one prefill per reading: `logprob_token_ids` returns the raw, full-vocabulary log-probabilities of exactly
the requested letters. (`allowed_token_ids` with `logprobs=k` looks alike but is not: it takes the k likeliest tokens
before the mask, so that letters can be missing.)
"""

import hashlib
import itertools
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from codemmlu.engine import chat_template, lora
from codemmlu.engine.cpu_cores import usable_cores
from codemmlu.engine.model_source import resolve
from codemmlu.engine.placement.gpus import Device, multiplies_bfloat16
from codemmlu.engine.protocol import DoesNotFit, Engine, EngineSettings, Generation, Sampling
from codemmlu.engine.start_failure import StartLog, explain, one_line
from codemmlu.errors import EngineDied, UserError
from codemmlu.mcq import Prompt, is_finite
from codemmlu.schema import Reading


def open_vllm(settings: EngineSettings) -> Engine:
    """Load a model and start its engine, which takes seconds to minutes.

    A model that cannot be loaded is a UserError.

    Args:
        settings: The model, and vLLM's arguments.

    Returns:
        The running engine.
    """
    model = resolve(settings.source, settings.cache)
    set_environment(settings.device, settings.arguments, settings.cores)
    return VllmEngine(model, settings)


def set_environment(device: Device, arguments: Mapping[str, Any], cores: int | None = None) -> None:
    """Set the environment variables that vLLM reads when its processes start; `cores`: see EngineSettings."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    # Ray sets this variable to the actor's num_cpus, at least 1; the threads of the engine are bound below.
    os.environ.pop("OMP_NUM_THREADS", None)
    if device is Device.CPU:
        ranks = int(arguments["tensor_parallel_size"])
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = cpu_binding(usable_cores(cores), ranks)


def cpu_binding(cores: list[int], ranks: int) -> str:
    """Return a CPU binding for vLLM: `0,1`, or `0|1` for two ranks. vLLM's default leaves cores idle."""
    share = max(1, len(cores) // ranks)
    groups = [cores[rank * share : (rank + 1) * share] or cores for rank in range(ranks)]
    return "|".join(",".join(map(str, group)) for group in groups)


def dtype_here(model: str, device: Device, arguments: Mapping[str, Any]) -> str:
    """Choose the dtype of an engine on this machine.

    Args:
        model: The directory of the model, or its Hub id.
        device: The hardware of the engine.
        arguments: vLLM's arguments.

    Returns:
        The dtype of the arguments; for `auto` on a CPU that is slow at bfloat16, float32 if the memory suffices.
    """
    asked, folder = str(arguments.get("dtype", "auto")), Path(model)
    config = folder / "config.json"
    quantised = arguments.get("quantization") or (
        config.is_file() and "quantization_config" in config.read_text("utf-8")
    )
    if (
        asked != "auto"
        or quantised
        or device is Device.GPU
        or multiplies_bfloat16(Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    ):
        return asked
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    free = re.search(r"^MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    # The weights take twice the bytes that are stored, and the stored bytes once more while they are read.
    fits = free is None or 3 * stored + int(arguments.get("kv_cache_memory_bytes") or 0) < 1024 * int(free[1])
    return "float32" if fits else asked


class VllmEngine:
    """One AsyncLLM and its tokenizer. Methods may be awaited concurrently; the engine batches requests."""

    def __init__(self, model: str, settings: EngineSettings) -> None:
        """Start the engine; a model that vLLM cannot start is a UserError.

        Args:
            model: A directory on this machine, or a Hub id.
            settings: The model's source and vLLM's arguments.

        Raises:
            UserError: vLLM cannot start this model.
        """
        # vLLM takes seconds to import, and only workers need it.
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = {**settings.arguments, "model": model, "disable_log_stats": True, "use_tqdm_on_load": False}
        arguments["dtype"] = dtype_here(model, settings.device, arguments)
        self._on_cpu = settings.device is Device.CPU
        if self._on_cpu:
            arguments["worker_extension_cls"] = "codemmlu.engine.vllm_cpu_patches.CpuWorker"
        self._group: Any = None
        given, log = AsyncEngineArgs(**arguments), StartLog()
        try:
            if arguments.get("distributed_executor_backend") == "ray":
                from codemmlu.engine import multi_node

                config = given.create_engine_config()
                parallel = config.parallel_config
                self._group = parallel.placement_group = multi_node.hold(parallel.world_size, settings.label)
                self._llm: Any = AsyncLLM.from_vllm_config(config, disable_log_stats=True)
            else:
                self._llm = AsyncLLM.from_engine_args(given)
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            why = explain(error, log.lines(), settings.name)
            raise UserError(f"{settings.source}: vLLM cannot start this model: {why}") from error
        self._tokenizer: Any = self._llm.get_tokenizer()
        chat_template.complete(self._tokenizer, model, settings.arguments.get("revision"))
        self._source, self._cache = settings.source, settings.cache
        self._room: int = self._llm.model_config.max_model_len - 1  # one token is generated
        self._ids = itertools.count()
        self._adapters: dict[str, Any] = {}
        self._letters: dict[tuple[str, str, str], int] = {}
        self._words: dict[tuple[str, str, str], int] = {}

    async def check(self, prompt: Prompt) -> None:
        """See Engine."""
        if self._on_cpu:
            await self._llm.collective_rpc("apply_cpu_patches")
        try:
            reading = await self.score(prompt)
        except DoesNotFit as error:
            raise UserError(f"{self._source}: not even a tiny question fits: {error}; raise max_model_len") from None
        if len(set(self._letters.values())) < len({letter for *_, letter in self._letters}):
            raise UserError(f"{self._source}: two letters are the same token after this template; choose another")
        if not is_finite(reading):
            bad = [f"{letter} {value}" for letter, value in zip(prompt.letters, reading.logprobs, strict=True)]
            raise UserError(f"{self._source}: letters come back without a finite log-probability: {', '.join(bad)}")

    async def check_adapter(self, prompt: Prompt, adapter: str) -> None:
        """See Engine."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._llm.add_lora(self._adapter(adapter))
        except EngineDeadError as error:
            raise EngineDied(f"{self._source}: the engine's process ended: {error}") from error
        except Exception as error:  # The engine's process sends any failure as a plain Exception, and goes on.
            raise UserError(f"the adapter {adapter} cannot be served with {self._source}: {one_line(error)}") from error
        tuned = await self.score(prompt, adapter)
        if not is_finite(tuned):
            raise UserError(
                f"the adapter {adapter} gives letters of {self._source} no finite log-probability: its weights hold "
                "numbers that are none (NaN) or far too large; train it again, or use another"
            )
        if (await self.score(prompt)).logprobs == tuned.logprobs:
            raise UserError(
                f"the adapter {adapter} changes nothing of {self._source}: a tiny question has the same "
                "log-probabilities with it and without it; its names may match none of the model's layers, or it may "
                "not be trained"
            )

    async def score(self, prompt: Prompt, adapter: str = "") -> Reading:
        """See Engine."""
        text, tokens = chat_template.encode(self._tokenizer, prompt)
        if not self.fits(len(tokens)):
            raise DoesNotFit(f"the prompt has {len(tokens):,} tokens, this engine takes {self._room:,}")
        ids = [self._word(prompt, text, tokens, word) for word in prompt.words] or [
            self._letter(prompt, text, tokens, letter) for letter in prompt.letters
        ]
        output = await self._ask(tokens, adapter, max_tokens=1, temperature=0, detokenize=False, logprob_token_ids=ids)
        by_token = output.outputs[0].logprobs[0]
        logprobs = tuple(float(by_token[token].logprob) for token in ids)
        mass = sum(math.exp(value) for value in logprobs)
        return Reading(
            order=prompt.order,
            logprobs=logprobs,
            mass=1.0 if mass > 1 else mass,  # Rounding may give more than one; NaN stays NaN.
            prompt_tokens=len(tokens),
            cached_tokens=output.num_cached_tokens or 0,
        )

    async def generate(self, prompt: Prompt, sampling: Sampling, adapter: str = "") -> Generation:
        """See Engine."""
        _, tokens = chat_template.encode(self._tokenizer, prompt, free=True)
        thinks = chat_template.THINK if chat_template.opens_thought(self._tokenizer, prompt) else ""
        if not self.fits(len(tokens)):
            raise DoesNotFit(f"the prompt has {len(tokens):,} tokens, this engine takes {self._room:,}")
        given = {**asdict(sampling), "max_tokens": min(sampling.max_tokens, self._room + 1 - len(tokens))}
        # Each question has a seed of its own, so its text does not depend on the rest of the batch.
        given["seed"] = seed_of(tokens, sampling.seed)
        output = await self._ask(tokens, adapter, **given, output_kind=_final_only())
        return Generation(
            texts=tuple(thinks + completion.text for completion in output.outputs),
            prompt_tokens=len(tokens) * sampling.n,
            cached_tokens=(output.num_cached_tokens or 0) * sampling.n,  # vLLM reports one of the n texts only.
            generated_tokens=sum(len(completion.token_ids) for completion in output.outputs),
        )

    def tokens(self, prompt: Prompt) -> int:
        """See Engine."""
        return len(chat_template.encode(self._tokenizer, prompt)[1])

    def fits(self, tokens: int) -> bool:
        """See Engine."""
        return tokens <= self._room

    def close(self) -> None:
        """See Engine."""
        if self._llm is not None:
            self._llm.shutdown()
            # Otherwise vLLM shuts it down again when Python ends, and fails, because its modules are gone by then.
            self._llm = None
        if self._group is not None:
            from codemmlu.engine import multi_node

            multi_node.release(self._group)
            self._group = None

    async def _ask(self, tokens: list[int], adapter: str, **sampling: Any) -> Any:
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.v1.engine.exceptions import EngineDeadError

        request = self._adapter(adapter) if adapter else None
        number = str(next(self._ids))
        stream = self._llm.generate(tokens_input(tokens), SamplingParams(**sampling), number, lora_request=request)
        try:
            return [output async for output in stream][-1]
        except EngineDeadError as error:
            raise EngineDied(f"{self._source}: the engine's process ended: {error}") from error

    def _adapter(self, path: str) -> Any:
        """Return vLLM's request object of an adapter, which is created once."""
        from vllm.lora.request import LoRARequest

        if path in self._adapters:
            return self._adapters[path]
        number = len(self._adapters) + 1
        # The name distinguishes the prefixes of this adapter in the prefix cache.
        self._adapters[path] = LoRARequest(path, number, str(lora.local(path, self._cache)))
        return self._adapters[path]

    def _word(self, prompt: Prompt, text: str, tokens: list[int], word: str) -> int:
        """Return the first token of a word after a prompt; refuse words that begin with the same token."""
        end = (text[-20:], prompt.before_letter, word)
        if end not in self._words:
            firsts = [
                chat_template.first_token(self._tokenizer, text, tokens, prompt.before_letter + choice)
                for choice in prompt.words
            ]
            if None in firsts or len(set(firsts)) < len(firsts):
                raise UserError(f"{self._source}: {' and '.join(prompt.words)} do not begin with tokens of their own")
            for choice, first in zip(prompt.words, firsts, strict=True):
                self._words[(text[-20:], prompt.before_letter, choice)] = int(first or 0)
        return self._words[end]

    def _letter(self, prompt: Prompt, text: str, tokens: list[int], letter: str) -> int:
        """Return the token of a letter after a prompt, which is looked up once for all prompts that end alike."""
        end = (text[-20:], prompt.before_letter, letter)
        if end not in self._letters:
            token = chat_template.letter_token(self._tokenizer, text, tokens, prompt.before_letter + letter)
            if token is None:
                raise UserError(
                    f"{self._source}: the letter {letter} is not one token of its own after this template; "
                    "choose another voters.NAME.template"
                )
            self._letters[end] = token
        return self._letters[end]


def seed_of(tokens: list[int], seed: int) -> int:
    """Return the seed of one request, which follows from its prompt and the recipe's seed."""
    return int.from_bytes(hashlib.sha256(repr((seed, tokens)).encode()).digest()[:4])


def _final_only() -> Any:
    from vllm.sampling_params import RequestOutputKind

    return RequestOutputKind.FINAL_ONLY
