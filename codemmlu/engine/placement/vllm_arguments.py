"""vLLM arguments: what vLLM is started with on a CPU or on GPUs. Pure functions of recipe and layout."""

from typing import Any

from codemmlu.engine.placement.gpus import GPUS
from codemmlu.engine.placement.memory import GIB, batched_tokens
from codemmlu.engine.placement.messages import BFLOAT16
from codemmlu.engine.placement.parallelism import FeasibleLayout
from codemmlu.recipe import ModelSettings

AT_ONCE = 256  # prompts in an engine's batch, unless memory limits them to fewer


def cpu_arguments(settings: ModelSettings) -> dict[str, Any]:
    """Return the vLLM arguments of an engine on the CPU."""
    # Eager execution, because compiling takes longer than it saves on a few thousand questions. Small blocks, because
    # prompts share prefixes in whole blocks.
    arguments = _common_arguments(settings) | {
        "enforce_eager": True,
        "block_size": 32,
        "kv_cache_memory_bytes": settings.cpu_kv_cache_gib * GIB,
    }
    if (settings.tensor_parallel or 1) > 1:
        arguments["distributed_executor_backend"] = "mp"
    return arguments | settings.engine


def gpu_arguments(settings: ModelSettings, feasible: FeasibleLayout, kind: str | None, spans: bool) -> dict[str, Any]:
    """Return the vLLM arguments of an engine on GPUs.

    Args:
        settings: The recipe's settings of the model.
        feasible: The layout, and the memory of each GPU.
        kind: The kind of GPU; None where it is not known.
        spans: Whether the engine's GPUs are on several nodes.

    Returns:
        The arguments, in which the recipe's `engine` overrides every other value.
    """
    layout, memory = feasible.layout, feasible.memory
    arguments = _common_arguments(settings) | {
        "tensor_parallel_size": layout.tensor,
        "pipeline_parallel_size": layout.pipeline,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        # On one node vLLM starts its own processes: Ray gives the GPUs to the actor, and no placement group is left.
        "distributed_executor_backend": "ray" if spans else "mp" if layout.gpus > 1 else "uni",
    }
    if memory:
        arguments |= {"max_num_seqs": memory.at_once, "max_num_batched_tokens": batched_tokens(memory.total)}
    if kind and GPUS[kind].capability < BFLOAT16 and settings.dtype == "auto":
        arguments["dtype"] = "float16"
    return arguments | settings.engine


def _common_arguments(settings: ModelSettings) -> dict[str, Any]:
    """Return the vLLM arguments that do not depend on where the engine runs."""
    arguments: dict[str, Any] = {
        "tensor_parallel_size": settings.tensor_parallel or 1,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        # -1 is the model's own length, or as much of it as the memory of the KV cache holds.
        "max_model_len": settings.max_model_len or -1,
        "max_num_seqs": settings.max_num_seqs or AT_ONCE,
        "load_format": "safetensors",
        "trust_remote_code": settings.trust_remote_code,
        "revision": settings.revision,
        "enable_prefix_caching": True,
        "tokenizer_mode": "hf",  # Mistral's own tokenizer class has no chat template to render with.
    }
    if settings.experts_per_token:
        arguments["hf_overrides"] = {"num_experts_per_tok": settings.experts_per_token}
    if settings.expert_parallel:
        arguments["enable_expert_parallel"] = True
    return arguments
