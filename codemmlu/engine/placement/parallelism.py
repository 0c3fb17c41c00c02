"""Parallelism: how the GPUs of one or several nodes can share a model, and what fits. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from codemmlu.engine.placement.gpus import Gpu, Node
from codemmlu.engine.placement.memory import (
    EngineLimits,
    Memory,
    ModelWeights,
    ParallelLayout,
    Shortfall,
    fit,
    weights_alone,
)
from codemmlu.engine.placement.model_facts import ModelFacts, Shape
from codemmlu.recipe import ModelSettings


@dataclass(frozen=True)
class PlacementRequest:
    """A model for which engines are wanted.

    Attributes:
        key: The recipe's key of the model, for error messages.
        settings: The recipe's settings of the model.
        facts: What is known of the model; None where its size is not known.
    """

    key: str
    settings: ModelSettings
    facts: ModelFacts | None


@dataclass(frozen=True)
class FeasibleLayout:
    """A layout whose GPUs hold the model.

    Attributes:
        layout: The layout.
        count: Engines of this layout that the nodes have room for.
        memory: The memory of each GPU; None where it cannot be known.
    """

    layout: ParallelLayout
    count: int
    memory: Memory | None


def feasible_layouts(
    settings: ModelSettings, nodes: Sequence[Node], gpu: Gpu | None, facts: ModelFacts | None
) -> tuple[list[FeasibleLayout], tuple[ParallelLayout, Shortfall] | None]:
    """Find the layouts that hold a model on nodes with GPUs of one kind.

    Args:
        settings: The recipe's settings of the model.
        nodes: The nodes.
        gpu: The kind of their GPUs; None where it is not known.
        facts: What is known of the model.

    Returns:
        The layouts that hold the model and for which there are enough GPUs, the smallest first; and the last layout
        that does not hold the model, with what is missing.
    """
    feasible: list[FeasibleLayout] = []
    short: tuple[ParallelLayout, Shortfall] | None = None
    for layout in layouts(settings, nodes, facts):
        memory = memory_of(settings, facts, layout, gpu)
        if isinstance(memory, Shortfall):
            short = layout, memory
        elif count := engines(nodes, layout):
            feasible.append(FeasibleLayout(layout, count, memory))
    return feasible, short


def engines(nodes: Sequence[Node], layout: ParallelLayout) -> int:
    """Count the engines that nodes hold: an engine on one node, or else each pipeline stage on one."""
    whole = sum(node.gpus // layout.gpus for node in nodes)
    return whole or sum(node.gpus // layout.tensor for node in nodes) // layout.pipeline


def layouts(settings: ModelSettings, nodes: Sequence[Node], facts: ModelFacts | None) -> list[ParallelLayout]:
    """List the layouts to try, the smallest first: the GPUs of one node before those of several nodes."""
    widest = max(node.gpus for node in nodes)
    stages = [settings.pipeline_parallel] if settings.pipeline_parallel else [1]
    if settings.tensor_parallel:
        return [ParallelLayout(settings.tensor_parallel, stage) for stage in stages]
    shape = facts.shape if facts else None
    heads = facts.heads if facts else None
    tensors = [t for t in (1, 2, 4, 8, 16) if t <= widest and (_divides(t, shape) if shape else not (heads or t) % t)]
    one_node = [ParallelLayout(tensor, stage) for stage in stages for tensor in tensors]
    if shape is None or settings.pipeline_parallel or len(nodes) == 1:
        return one_node
    return one_node + [
        ParallelLayout(tensors[-1], stage) for stage in range(2, len(nodes) + 1) if stage <= shape.layers
    ]


def _divides(tensor: int, shape: Shape) -> bool:
    """Return whether GPUs can share the heads: each gets some, and some key and value heads or a copy."""
    kv = shape.kv_heads
    return shape.heads % tensor == 0 and (kv % tensor == 0 or tensor % kv == 0)


def memory_of(
    settings: ModelSettings, facts: ModelFacts | None, layout: ParallelLayout, gpu: Gpu | None
) -> Memory | Shortfall | None:
    """Plan the memory of each GPU of an engine.

    Args:
        settings: The recipe's settings of the model.
        facts: What is known of the model.
        layout: How the GPUs share the model.
        gpu: The kind of the GPUs; None where it is not known.

    Returns:
        The memory, or what is missing; None where it cannot be known. Of a decoder of unknown kind only a shortfall is
        known, of its weights alone.
    """
    if facts is None or gpu is None:
        return None
    if facts.shape is None:
        if not facts.weight_bytes or settings.quantization or settings.engine.get("cpu_offload_gb"):
            return None
        usable = gpu.memory_gib * settings.gpu_memory_utilization
        # vLLM loads float32 weights in 16 bits unless the recipe asks for float32.
        halved = facts.is_float32 and settings.dtype != "float32"
        return weights_alone(facts.weight_bytes // (2 if halved else 1), layout, usable)
    extra = settings.engine
    width = 4 if settings.dtype == "float32" else 2
    batched, eager = extra.get("max_num_batched_tokens"), bool(extra.get("enforce_eager"))
    shape = replace(facts.shape, experts_per_token=settings.experts_per_token or facts.shape.experts_per_token)
    limits = EngineLimits(
        utilization=settings.gpu_memory_utilization,
        length=settings.max_model_len,
        at_once=settings.max_num_seqs,
        batched=int(str(batched)) if batched else None,
        graphs=not eager,
        cache_width=1 if str(extra.get("kv_cache_dtype", "")).startswith("fp8") else width,
    )
    model = ModelWeights(shape, facts.quantization(settings.quantization), facts.weight_bytes, width)
    return fit(model, layout, gpu, limits)
