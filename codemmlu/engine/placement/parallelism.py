"""Layouts: how the GPUs of a node, or of several, may share a model, and what memory that leaves. Pure functions."""

from collections.abc import Sequence
from dataclasses import replace

from codemmlu.engine.placement.gpus import Gpu, Node
from codemmlu.engine.placement.memory import Memory, ModelFacts, ParallelLayout, Shape, Shortfall, fit, weights_alone
from codemmlu.recipe import ModelSettings


def feasible_layouts(
    settings: ModelSettings, nodes: Sequence[Node], gpu: Gpu | None, known: ModelFacts | None
) -> tuple[list[tuple[int, ParallelLayout, Memory | None]], tuple[ParallelLayout, Shortfall] | None]:
    """The layouts that hold the model, with how many engines there are room for; and the last one that does not."""
    found: list[tuple[int, ParallelLayout, Memory | None]] = []
    short: tuple[ParallelLayout, Shortfall] | None = None
    for layout in layouts(settings, nodes, known):
        memory = memory_of(settings, known, layout, gpu)
        if isinstance(memory, Shortfall):
            short = layout, memory
        elif count := engines(nodes, layout):
            found.append((count, layout, memory))
    return found, short


def engines(nodes: Sequence[Node], layout: ParallelLayout) -> int:
    """How many engines of a layout the nodes hold: each on one node, or each of its stages on one."""
    whole = sum(node.gpus // layout.gpus for node in nodes)
    return whole or sum(node.gpus // layout.tensor for node in nodes) // layout.pipeline


def layouts(settings: ModelSettings, nodes: Sequence[Node], known: ModelFacts | None) -> list[ParallelLayout]:
    """What may be tried, the smallest first: one node's GPUs before several nodes'."""
    widest = max(node.gpus for node in nodes)
    stages = [settings.pipeline_parallel] if settings.pipeline_parallel else [1]
    if settings.tensor_parallel:
        return [ParallelLayout(settings.tensor_parallel, stage) for stage in stages]
    shape = known.shape if known else None
    heads = known.heads if known else None
    tensors = [t for t in (1, 2, 4, 8, 16) if t <= widest and (_divides(t, shape) if shape else not (heads or t) % t)]
    if shape is None:
        return [ParallelLayout(tensor, stage) for stage in stages for tensor in tensors]
    one_node = [ParallelLayout(tensor, stage) for stage in stages for tensor in tensors]
    if settings.pipeline_parallel or len(nodes) == 1:
        return one_node
    return one_node + [
        ParallelLayout(tensors[-1], stage) for stage in range(2, len(nodes) + 1) if stage <= shape.layers
    ]


def _divides(tensor: int, shape: Shape) -> bool:
    """Whether so many GPUs can share the heads: each has some, and some of the key and value heads or a copy of one."""
    kv = shape.kv_heads
    return shape.heads % tensor == 0 and (kv % tensor == 0 or tensor % kv == 0)


def memory_of(
    settings: ModelSettings, known: ModelFacts | None, layout: ParallelLayout, gpu: Gpu | None
) -> Memory | Shortfall | None:
    """The memory of each GPU; None where it cannot be known."""
    if known is None or gpu is None:
        return None
    if known.shape is None:
        if not known.weight_bytes or settings.quantization or settings.engine.get("cpu_offload_gb"):
            return None
        usable = gpu.memory_gib * settings.gpu_memory_utilization
        halved = known.is_float32 and settings.dtype != "float32"  # as vLLM loads them
        return weights_alone(known.weight_bytes // (2 if halved else 1), layout, usable)
    extra = settings.engine
    width = 4 if settings.dtype == "float32" else 2
    batched, eager = extra.get("max_num_batched_tokens"), bool(extra.get("enforce_eager"))
    return fit(
        replace(known.shape, experts_per_token=settings.experts_per_token or known.shape.experts_per_token),
        known.quantization(settings.quantization),
        known.weight_bytes,
        layout,
        gpu.memory_gib,
        settings.gpu_memory_utilization,
        length=settings.max_model_len,
        at_once=settings.max_num_seqs,
        batched=int(str(batched)) if batched else None,
        graphs=not eager,
        cache_width=1 if str(extra.get("kv_cache_dtype", "")).startswith("fp8") else width,
        width=width,
    )
