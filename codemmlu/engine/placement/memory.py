"""The memory plan: what an engine needs on each GPU, before anything is loaded. Pure functions.

    weights + activations + CUDA's own + KV cache <= memory of the GPU x gpu_memory_utilization

Weights come from the size of the files, or from the shape that config.json describes; the KV cache gets what is left.
The formulas follow the published transformers (Llama, Mistral, Mixtral, Qwen2), with grouped-query attention (Ainslie
et al. 2023); what vLLM needs beside the weights was read off its profiling run.
"""

from dataclasses import dataclass, replace

from codemmlu.engine.placement.gpus import Gpu
from codemmlu.engine.placement.model_facts import Quantization, Shape

GIB = 2**30
# What a process holds besides PyTorch's tensors: CUDA's context and kernels, and NCCL's buffers between GPUs.
_CONTEXT_GIB, _NCCL_GIB = 0.45, 0.25
# CUDA graphs take this much beyond what vLLM counts.
_GRAPHS_GIB = 0.3
# Activations, and a KV cache of some thousand tokens, beside the weights of a model whose shape is not known.
_LEAST_BESIDE_GIB = 1.0
# Tokens of one question with a few examples. The KV cache should hold a whole batch of such questions.
TYPICAL_TOKENS = 1024
# A context shorter than this could not take the longer questions of CodeMMLU.
LEAST_LENGTH = 2048
# Numbers of prompts in a batch that are tried, the largest first.
_BATCH_SIZES = (256, 128, 64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class ParallelLayout:
    """How the GPUs of one engine share its model.

    Attributes:
        tensor: GPUs that share each layer (tensor parallelism).
        pipeline: Groups of such GPUs that share the layers (pipeline parallelism).
    """

    tensor: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tensor * self.pipeline


@dataclass(frozen=True)
class ModelWeights:
    """A model's weights as an engine holds them.

    Attributes:
        shape: The shape of the decoder.
        quantization: The number format of the linear layers; None for plain numbers.
        file_bytes: The size of the weight files; None where only the shape is known.
        width: Bytes of a plain number in memory.
    """

    shape: Shape
    quantization: Quantization | None = None
    file_bytes: int | None = None
    width: int = 2


@dataclass(frozen=True)
class EngineLimits:
    """The limits within which an engine uses the memory of its GPUs.

    Attributes:
        utilization: The fraction of a GPU's memory that the engine may take.
        length: Tokens of the longest prompt; None: as many as fit.
        at_once: Prompts in a batch; None: as many as fit.
        batched: Tokens of one forward pass; None: by the size of the GPU.
        graphs: Whether vLLM records CUDA graphs, which take memory beyond what vLLM counts.
        cache_width: Bytes of one number in the KV cache.
    """

    utilization: float
    length: int | None = None
    at_once: int | None = None
    batched: int | None = None
    graphs: bool = True
    cache_width: int = 2


@dataclass(frozen=True)
class Memory:
    """The memory of each GPU of one engine, and what fits in it.

    Attributes:
        weights: GiB of weights.
        activations: GiB of activations at the height of a forward pass.
        context: GiB that CUDA, NCCL and CUDA graphs take.
        cache: GiB of KV cache.
        total: GiB of the whole GPU.
        usable: GiB that the engine may take.
        cache_tokens: Tokens that the KV cache holds.
        length: Tokens of the longest prompt.
        at_once: Prompts in a batch.
    """

    weights: float
    activations: float
    context: float
    cache: float
    total: float
    usable: float
    cache_tokens: int
    length: int
    at_once: int

    @property
    def sum(self) -> float:
        """GiB that the engine takes of each GPU."""
        return self.weights + self.activations + self.context + self.cache

    def __str__(self) -> str:
        """Return the plan as the user reads it, in one line."""
        return (
            f"weights {self.weights:.2f} + activations {self.activations:.2f} + CUDA {self.context:.2f} + KV cache "
            f"{self.cache:.2f} = {self.sum:.2f} GiB of each GPU's {self.total:.2f}: {self.cache_tokens:,} tokens, "
            f"{self.length:,} in one prompt, {self.at_once} prompts at once"
        )


@dataclass(frozen=True)
class Shortfall:
    """The memory of an engine that does not fit.

    Attributes:
        needed: GiB that the engine needs on each GPU.
        weights: GiB of weights, the largest part of `needed`.
        usable: GiB that the engine may take.
        length: Tokens of the longest prompt for which `needed` is computed.
    """

    needed: float
    weights: float
    usable: float
    length: int


def layout_bytes(shape: Shape, quantization: Quantization | None, width: int = 2) -> tuple[float, float]:
    """Return the bytes of all layers, and of one table of the vocabulary, computed from the shape alone."""
    attention = shape.hidden * shape.head_size * 2 * (shape.heads + shape.kv_heads)
    experts = 3 * shape.hidden * shape.intermediate * shape.experts
    plain = 2 * shape.hidden + (shape.hidden * shape.experts if shape.experts > 1 else 0)
    plain += shape.head_size * (shape.heads + 2 * shape.kv_heads) if shape.biased else 0
    partly = quantization is not None and quantization.experts_only
    each = quantization.bytes_each if quantization and not (partly and shape.experts == 1) else width
    around = width if partly else each
    layers = shape.layers * (attention * around + experts * each + plain * width) + shape.hidden * width
    return layers, float(shape.vocabulary * shape.hidden * width)


def active_parameters(shape: Shape) -> float:
    """Return the parameters that a token passes through: all layers, with its experts only, and one table."""
    layers, table = layout_bytes(replace(shape, experts=shape.experts_per_token), None, 1)
    return layers + table


def weights_on_each(model: ModelWeights, layout: ParallelLayout) -> float:
    """Return the bytes of weights on the fullest GPU of an engine."""
    shape = model.shape
    layers, table = layout_bytes(shape, model.quantization, model.width)
    tables = table if shape.tied and layout.pipeline == 1 else 2 * table
    made = model.quantization is not None and model.quantization.made
    if model.file_bytes is not None and not made:
        # Files also hold what the shape leaves out (an image tower). A tied table is in the files once.
        in_files = model.file_bytes * (model.width / shape.width if model.quantization is None else 1)
        layers = max(0.0, in_files - (table if shape.tied else 2 * table))
    stage = layers * -(-shape.layers // layout.pipeline) / shape.layers
    return (stage + (tables if layout.pipeline == 1 else table)) / layout.tensor


def cache_bytes(shape: Shape, layout: ParallelLayout, width: int = 2) -> int:
    """Return the bytes of one token's KV cache on one GPU: a key and a value for each layer and head."""
    layers = -(-shape.layers // layout.pipeline)
    return 2 * layers * max(1, shape.kv_heads // layout.tensor) * shape.head_size * width


def activation_bytes(shape: Shape, layout: ParallelLayout, batched: int, at_once: int, width: int = 2) -> float:
    """Return the peak bytes of a forward pass over `batched` tokens and of sampling for `at_once` prompts."""
    attention = shape.head_size * (shape.heads + 2 * shape.kv_heads) / layout.tensor
    between = shape.experts_per_token * (3 * shape.intermediate / layout.tensor + (shape.experts > 1) * shape.hidden)
    # The residual stream, the layer's input and the layer's output are held beside the values inside the layer.
    forward = batched * width * (3 * shape.hidden + max(attention, between))
    # Logits are held once in 16 bits and twice in 32: as they are, and as log-probabilities.
    return forward + at_once * shape.vocabulary * 10


def batched_tokens(total_gib: float) -> int:
    """Return the tokens of one forward pass, of which a GPU with more memory takes more."""
    return 8192 if total_gib > 36 else 2048


def fit(model: ModelWeights, layout: ParallelLayout, gpu: Gpu, limits: EngineLimits) -> Memory | Shortfall:
    """Plan the memory of an engine's GPUs, with the largest batch of typical questions that fits.

    Args:
        model: The weights, as the engine holds them.
        layout: How the GPUs share the model.
        gpu: The kind of each of the GPUs.
        limits: The engine's limits; the plan chooses those that are None.

    Returns:
        The memory of each GPU, or what is missing where not even the shortest useful prompt fits.
    """
    shape, total = model.shape, gpu.memory_gib
    usable = total * limits.utilization
    weights = weights_on_each(model, layout) / GIB
    context = _CONTEXT_GIB + (_NCCL_GIB if layout.gpus > 1 else 0) + (_GRAPHS_GIB if limits.graphs else 0)
    least = limits.length or min(LEAST_LENGTH, shape.length)
    each = cache_bytes(shape, layout, limits.cache_width) / GIB
    batched = limits.batched or batched_tokens(total)
    # With a sliding window, the KV cache holds the window and the tokens of the forward pass that is under way.
    window = shape.window + batched if shape.window else None
    plan: Memory | None = None
    activations = 0.0
    for at_once in [limits.at_once] if limits.at_once else _BATCH_SIZES:
        activations = activation_bytes(shape, layout, batched, at_once, model.width) / GIB
        cache = usable - weights - activations - context
        tokens = max(0, int(cache / each))
        if tokens < min(least, window or least):
            continue
        longest = shape.length if window and tokens >= window else min(shape.length, tokens // 16 * 16)
        length = limits.length or longest
        plan = Memory(weights, activations, context, cache, total, usable, tokens, length, at_once)
        if tokens >= at_once * TYPICAL_TOKENS:
            break
    if plan:
        return plan
    return Shortfall(weights + activations + context + least * each, weights, usable, least)


def weights_alone(file_bytes: int, layout: ParallelLayout, usable: float) -> Shortfall | None:
    """Check whether the weights of a decoder of unknown kind fit on the GPUs, with a little room to spare.

    Args:
        file_bytes: The size of the weights.
        layout: How the GPUs share the model.
        usable: GiB of each GPU that the engine may take.

    Returns:
        What is missing; None where the weights fit.
    """
    weights = file_bytes / GIB / layout.gpus
    needed = weights + _CONTEXT_GIB + _LEAST_BESIDE_GIB
    return Shortfall(needed, weights, usable, LEAST_LENGTH) if needed > usable else None
