"""The section `models`: each entry is a model and the engines that serve the model."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, model_validator

from codemmlu.recipe.base import Settings

# Engine arguments, and keys inside them, whose value is a class, a function or a module that vLLM imports.
_CODE = re.compile(
    r".*(_cls|_class|_plugins?|module_path|_passes?|_hook|_fn)|logits_processors|auto_map|custom_ops_path|code_revision"
)
_EXECUTORS = (None, "mp", "ray", "uni", "external_launcher")


def names_of_code(arguments: Mapping[str, JsonValue]) -> list[str]:
    """Return the paths of the engine arguments that name Python code."""
    return [path for path, key, value in _leaves(dict(arguments), "") if _is_code(key, value)]


def _is_code(key: str, value: JsonValue) -> bool:
    if value is None or value == [] or value == {}:
        return False
    if key == "distributed_executor_backend":
        return value not in _EXECUTORS
    if key == "backend":  # Of a compilation; its own ones have no dots.
        return isinstance(value, str) and "." in value
    return _CODE.fullmatch(key) is not None and not isinstance(value, bool | int | float) and value != "auto"


def _leaves(value: JsonValue, path: str) -> Iterator[tuple[str, str, JsonValue]]:
    """Return the path, the last key and the value of everything in nested mappings and lists."""
    entries = value.items() if isinstance(value, dict) else []
    for key, inner in entries:
        here = f"{path}.{key}".removeprefix(".")
        yield here, str(key).replace("-", "_").rpartition(".")[2], inner
        yield from _leaves(inner, here)
    for inner in value if isinstance(value, list) else []:
        yield from _leaves(inner, path)


class ModelSettings(Settings):
    """A model and the engines that serve the model; None leaves a value to vLLM."""

    source: str  # embedded | OWNER/NAME on the Hub | directory | FILE.gguf | scripted[:FILE.yaml]
    revision: str | None = None  # Hub only: a branch, tag or commit
    tensor_parallel: Annotated[int, Field(ge=1)] | None = None  # GPUs that share each layer; None: by memory
    pipeline_parallel: Annotated[int, Field(ge=1)] | None = None  # groups of such GPUs, each with some of the layers
    # Number of engines, or [least, most] of a pool that grows. None: as many as the cluster's GPUs hold; 1 on the CPU
    replicas: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] | None = (
        None
    )
    experts_per_token: Annotated[int, Field(ge=1)] | None = None  # of a mixture of experts; None: the model's own
    expert_parallel: bool = False  # whole experts on each GPU instead of a part of every expert
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    quantization: str | None = None
    max_model_len: Annotated[int, Field(ge=16)] | None = None
    max_num_seqs: Annotated[int, Field(ge=1)] | None = None  # prompts at once; None: 256, or what memory holds
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    cpu_kv_cache_gib: Annotated[int, Field(ge=1)] = 2  # without a GPU: memory for the KV cache
    trust_remote_code: bool = False  # runs Python code that comes with the model
    start_timeout: Annotated[float, Field(gt=0)] | None = None  # seconds until the first answer; None: no limit
    allow_low_mass: bool = False  # goes on where the letters hold less than 0.02 of the probability
    engine: dict[str, JsonValue] = Field(default_factory=dict)  # any other vLLM engine argument, by vLLM's own name

    @model_validator(mode="after")
    def _engine_does_not_repeat(self) -> Self:
        ours = {
            "model": "source",
            "tokenizer": "source",
            "revision": "revision",
            "tensor_parallel_size": "tensor_parallel",
            "pipeline_parallel_size": "pipeline_parallel",
            "enable_expert_parallel": "expert_parallel",
            "load_format": "source",
            **{name: name for name in ("dtype", "quantization", "max_model_len", "max_num_seqs")},
            **{name: name for name in ("gpu_memory_utilization", "trust_remote_code")},
        }
        if "hf_token" in self.engine:
            raise ValueError("engine.hf_token: recipes are kept and shown; set HF_TOKEN in the environment instead")
        if repeated := sorted(set(self.engine) & set(ours)):
            raise ValueError(f"engine.{repeated[0]}: say this with `{ours[repeated[0]]}`, one level up")
        if not self.trust_remote_code and (code := names_of_code(self.engine)):
            raise ValueError(
                f"engine.{code[0]}: it names Python code that every node would run; set trust_remote_code as well if "
                "you trust it"
            )
        if self.experts_per_token and "hf_overrides" in self.engine:
            raise ValueError("engine.hf_overrides: give num_experts_per_tok in it as well, or use experts_per_token")
        if self.engines and self.engines[0] > self.engines[1]:
            raise ValueError(f"replicas: [least, most], and {self.engines[0]} is more than {self.engines[1]}")
        return self

    @property
    def engines(self) -> tuple[int, int] | None:
        """Return the (least, most) engines; None: as many as the cluster holds."""
        return (self.replicas, self.replicas) if isinstance(self.replicas, int) else self.replicas
