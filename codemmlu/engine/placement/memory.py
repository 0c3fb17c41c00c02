"""The memory plan: what one engine needs on each of its GPUs, before anything is loaded. Pure functions.

    weights + activations + CUDA's own + KV cache <= memory of the GPU x gpu_memory_utilization

Weights come from the size of the files, or from the layout that config.json describes; the KV cache gets what is left.
Formulas: the layouts of the published transformers (Llama, Mistral, Mixtral, Qwen2), with grouped-query attention
(Ainslie et al. 2023); what vLLM puts beside the weights was read off its profiling run.
"""

from dataclasses import dataclass, replace
from typing import Any

GIB = 2**30
# What a process holds besides PyTorch's tensors: CUDA's context and kernels, and NCCL's buffers between GPUs.
_CONTEXT_GIB, _NCCL_GIB = 0.45, 0.25
# Tokens of one question as they come with a few examples: how many at once the KV cache should hold.
TYPICAL_TOKENS = 1024
# A shorter context than this could not take the longer questions of CodeMMLU.
LEAST_LENGTH = 2048
# How configurations say how many experts there are; the kinds whose experts are all as wide as `intermediate_size`, in
# every layer; and the kinds that see a window in every layer where they have one.
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
_MIXTURES = ("mixtral",)
_WINDOWED, _SLIDING = ("mistral", "mixtral", "qwen2"), "sliding_attention"
_AT_ONCE = (256, 128, 64, 32, 16, 8, 4, 2, 1)


@dataclass(frozen=True)
class Shape:
    """What config.json says of a decoder. window: None: every layer sees all tokens; experts: 1: none."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    length: int
    tied: bool
    biased: bool
    experts: int = 1
    experts_per_token: int = 1
    window: int | None = None
    width: int = 2  # bytes of one number in the files


@dataclass(frozen=True)
class Quantization:
    """How the linear layers are kept.

    group: numbers that share a scale and a zero; 0: none do
    made: while plain weights are loaded; experts_only: all but the experts of a mixture stays as it is
    """

    method: str
    bits: int
    group: int = 0
    made: bool = False
    experts_only: bool = False

    @property
    def bytes_each(self) -> float:
        """Bytes of one number, with its share of scales (16 bit) and zeros (as wide as the number)."""
        return self.bits / 8 + ((2 + self.bits / 8) / self.group if self.group else 0)


# What vLLM 0.32 makes of plain weights while it loads them.
_ONLINE = {
    **{
        name: Quantization(name, 8, made=True) for name in ("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block")
    },
    **{
        name: Quantization(name, 8, made=True, experts_only=True)
        for name in ("experts_int8", "int8_per_channel_weight_only")
    },
}


@dataclass(frozen=True)
class ParallelLayout:
    """One engine: tensor_parallel GPUs share each layer, pipeline_parallel groups of them share the layers."""

    tensor: int = 1
    pipeline: int = 1

    @property
    def gpus(self) -> int:
        """GPUs of one engine."""
        return self.tensor * self.pipeline


@dataclass(frozen=True)
class Memory:
    """GiB on each GPU of one engine, and what fits: `length` tokens at most, `at_once` questions in a batch.

    cache_tokens: tokens that the KV cache holds; total, usable: of the GPU, and what the engine may take of it
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
        """All of it."""
        return self.weights + self.activations + self.context + self.cache

    def __str__(self) -> str:
        return (
            f"weights {self.weights:.2f} + activations {self.activations:.2f} + CUDA {self.context:.2f} + KV cache "
            f"{self.cache:.2f} = {self.sum:.2f} GiB of each GPU's {self.total:.2f}: {self.cache_tokens:,} tokens, "
            f"{self.length:,} in one prompt, {self.at_once} prompts at once"
        )


@dataclass(frozen=True)
class Shortfall:
    """What does not fit: `needed` GiB on each GPU, of which the weights are most, where `usable` may be taken."""

    needed: float
    weights: float
    usable: float
    length: int


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before it is loaded. weight_bytes: of its files, None where nobody has said."""

    config: dict[str, Any]
    weight_bytes: int | None

    @property
    def shape(self) -> Shape | None:
        """See shape_of."""
        return shape_of(self.config)

    @property
    def heads(self) -> int | None:
        """How many attention heads there are to share."""
        found = self._text.get("num_attention_heads")
        return found if isinstance(found, int) else None

    @property
    def is_float32(self) -> bool:
        """Whether the files hold numbers of four bytes."""
        return str(self._text.get("dtype") or self._text.get("torch_dtype")) == "float32"

    @property
    def _text(self) -> dict[str, Any]:
        return {**self.config, **(self.config.get("text_config") or {})}

    def quantization(self, asked: str | None) -> Quantization | None:
        """See quantization_of."""
        return quantization_of(self.config, asked)


def shape_of(config: dict[str, Any]) -> Shape | None:
    """The decoder that a config.json describes; None where it is not one of the known kind."""
    text: dict[str, Any] = {**config, **(config.get("text_config") or {})}
    try:
        heads, hidden = int(text["num_attention_heads"]), int(text["hidden_size"])
        kind = str(text.get("model_type", ""))
        experts = next((int(text[key]) for key in _EXPERTS if text.get(key)), 1)
        if experts > 1 and kind not in _MIXTURES:
            return None  # experts of other widths, dense layers between: nothing is guessed
        # Where only some layers see a window the others hold all tokens: as if there were none.
        every = text.get("use_sliding_window", kind in _WINDOWED) and set(text.get("layer_types") or ()) <= {_SLIDING}
        return Shape(
            layers=int(text["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(text["intermediate_size"]),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_size=int(text.get("head_dim") or hidden // heads),
            vocabulary=int(text["vocab_size"]),
            length=int(text["max_position_embeddings"]),
            tied=bool(text.get("tie_word_embeddings", False)),
            biased=bool(text.get("attention_bias", kind.startswith("qwen2"))),
            experts=experts,
            experts_per_token=int(text.get("num_experts_per_tok") or 1),
            window=text.get("sliding_window") if every else None,
            width=4 if str(text.get("dtype") or text.get("torch_dtype")) == "float32" else 2,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def quantization_of(config: dict[str, Any], asked: str | None) -> Quantization | None:
    """How a model's linear layers are kept in an engine's memory; None: as plain numbers.

    asked: what the recipe says; of plain weights only those of `_ONLINE` are made while they are loaded
    """
    said = config.get("quantization_config")
    if not isinstance(said, dict):
        return _ONLINE.get(asked or "")
    method = str(said.get("quant_method", asked or "unknown"))
    if method == "compressed-tensors":
        groups = said.get("config_groups") or {}
        weights = next((group.get("weights") for group in groups.values()), None) or {}
        return Quantization(method, int(weights.get("num_bits") or 8), int(weights.get("group_size") or 0))
    bits = int(said.get("bits") or said.get("w_bit") or (4 if method in ("awq", "gptq") else 8))
    return Quantization(method, bits, max(0, int(said.get("group_size") or said.get("q_group_size") or 0)))


def layout_bytes(shape: Shape, quantization: Quantization | None, width: int = 2) -> tuple[float, float]:
    """(bytes of all layers, bytes of one table of the vocabulary), from the layout alone."""
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
    """Parameters that one token meets: all layers with as many experts as it is given, and one table."""
    layers, table = layout_bytes(replace(shape, experts=shape.experts_per_token), None, 1)
    return layers + table


def weights_on_each(
    shape: Shape, quantization: Quantization | None, file_bytes: int | None, layout: ParallelLayout, width: int = 2
) -> float:
    """Bytes of weights on the fullest GPU of an engine.

    file_bytes: of the weight files, None where only the layout is known; width: of a plain number in memory
    """
    layers, table = layout_bytes(shape, quantization, width)
    tables = table if shape.tied and layout.pipeline == 1 else 2 * table
    made = quantization is not None and quantization.made
    if file_bytes is not None and not made:
        # Files also hold what the layout leaves out (an image tower); they keep a tied table once.
        in_files = file_bytes * (width / shape.width if quantization is None else 1)
        layers = max(0.0, in_files - (table if shape.tied else 2 * table))
    stage = layers * -(-shape.layers // layout.pipeline) / shape.layers
    return (stage + (tables if layout.pipeline == 1 else table)) / layout.tensor


def cache_bytes(shape: Shape, layout: ParallelLayout, width: int = 2) -> int:
    """Bytes of KV cache of one token on one GPU: a key and a value in each of its layers and heads."""
    layers = -(-shape.layers // layout.pipeline)
    return 2 * layers * max(1, shape.kv_heads // layout.tensor) * shape.head_size * width


def activation_bytes(shape: Shape, layout: ParallelLayout, batched: int, at_once: int, width: int = 2) -> float:
    """Bytes at the height of a forward pass over `batched` tokens, and of sampling for `at_once` prompts."""
    attention = shape.head_size * (shape.heads + 2 * shape.kv_heads) / layout.tensor
    between = shape.experts_per_token * (3 * shape.intermediate / layout.tensor + (shape.experts > 1) * shape.hidden)
    # The residual, the layer's input and its output beside what is between.
    forward = batched * width * (3 * shape.hidden + max(attention, between))
    # Logits in 16 bits, and twice in 32: as they are and as log-probabilities.
    return forward + at_once * shape.vocabulary * 10


def batched_tokens(total_gib: float) -> int:
    """Tokens of one forward pass: more where there is memory for them."""
    return 8192 if total_gib > 36 else 2048


def fit(
    shape: Shape,
    quantization: Quantization | None,
    file_bytes: int | None,
    layout: ParallelLayout,
    total_gib: float,
    utilization: float,
    length: int | None = None,
    at_once: int | None = None,
    batched: int | None = None,
    graphs: bool = True,
    cache_width: int = 2,
    width: int = 2,
) -> Memory | Shortfall:
    """What one engine of this layout makes of its GPUs. length, at_once: None where they may be chosen.

    graphs: whether vLLM records CUDA graphs, which take room beyond what it counts
    cache_width, width: bytes of one number in the KV cache, and everywhere else
    """
    usable = total_gib * utilization
    weights = weights_on_each(shape, quantization, file_bytes, layout, width) / GIB
    context = _CONTEXT_GIB + (_NCCL_GIB if layout.gpus > 1 else 0) + (0.3 if graphs else 0)
    least = length or min(LEAST_LENGTH, shape.length)
    each = cache_bytes(shape, layout, cache_width) / GIB
    together = batched or batched_tokens(total_gib)
    # A window slides over what is under way besides.
    window = shape.window + together if shape.window else None
    found: Memory | None = None
    activations = 0.0
    for number in [at_once] if at_once else _AT_ONCE:
        activations = activation_bytes(shape, layout, together, number, width) / GIB
        cache = usable - weights - activations - context
        tokens = max(0, int(cache / each))
        if tokens < min(least, window or least):
            continue
        longest = shape.length if window and tokens >= window else min(shape.length, tokens // 16 * 16)
        found = Memory(weights, activations, context, cache, total_gib, usable, tokens, length or longest, number)
        if tokens >= number * TYPICAL_TOKENS:
            break
    if found:
        return found
    return Shortfall(weights + activations + context + least * each, weights, usable, least)


_LEAST_BESIDE = 1.0  # GiB: activations and a KV cache of some thousand tokens


def weights_alone(file_bytes: int, layout: ParallelLayout, usable: float) -> Shortfall | None:
    """Of a decoder that is not of a known kind: whether its files find room on each GPU, with a little beside them."""
    weights = file_bytes / GIB / layout.gpus
    needed = weights + _CONTEXT_GIB + _LEAST_BESIDE
    return Shortfall(needed, weights, usable, LEAST_LENGTH) if needed > usable else None
