"""Model facts: the shape and the number format of a model, read from its config.json before loading.

The shapes are those of the published transformers (Llama, Mistral, Mixtral, Qwen2).
"""

from dataclasses import dataclass
from typing import Any

# The keys by which configurations give the number of experts.
_EXPERT_KEYS = ("num_local_experts", "num_experts", "n_routed_experts")
# Model types whose experts are all as wide as `intermediate_size`, in every layer.
_MIXTURES = ("mixtral",)
# Model types in which every layer sees a sliding window where the configuration has one.
_WINDOWED = ("mistral", "mixtral", "qwen2")
_SLIDING = "sliding_attention"


@dataclass(frozen=True)
class Shape:
    """The shape of a decoder, as config.json describes it.

    Attributes:
        layers: Number of layers.
        hidden: Width of the residual stream.
        intermediate: Width of a feed-forward block, or of one expert.
        heads: Attention heads of a layer.
        kv_heads: Key and value heads of a layer; fewer than `heads` with grouped-query attention.
        head_size: Width of one head.
        vocabulary: Tokens of the vocabulary.
        length: Tokens that the model's positions reach.
        tied: Whether input and output share one embedding table.
        biased: Whether the attention projections have biases.
        experts: Experts of a layer; 1 for a dense model.
        experts_per_token: Experts that each token passes through.
        window: Tokens that each layer sees; None: every layer sees all tokens.
        width: Bytes of one number in the weight files.
    """

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
    width: int = 2


@dataclass(frozen=True)
class Quantization:
    """The number format of a model's linear layers in memory.

    Attributes:
        method: The method, by its name in config.json or in vLLM.
        bits: Bits of one number.
        group: Numbers that share a scale and a zero point; 0: none do.
        made: Whether vLLM quantizes plain weights while it loads them.
        experts_only: Whether only the experts of a mixture are quantized, and all other layers stay as they are.
    """

    method: str
    bits: int
    group: int = 0
    made: bool = False
    experts_only: bool = False

    @property
    def bytes_each(self) -> float:
        """Bytes of one number, with its share of a scale (16 bits) and a zero point (as wide as the number)."""
        return self.bits / 8 + ((2 + self.bits / 8) / self.group if self.group else 0)


# The formats into which vLLM 0.32 quantizes plain weights while it loads them.
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
class ModelFacts:
    """What is known of a model before it is loaded.

    Attributes:
        config: The content of its config.json.
        weight_bytes: The size of its weight files; None where the size is not known.
    """

    config: dict[str, Any]
    weight_bytes: int | None

    @property
    def shape(self) -> Shape | None:
        """The shape of the decoder; None where its kind is not known."""
        return shape_of(self.config)

    @property
    def heads(self) -> int | None:
        """The number of attention heads, which GPUs can share."""
        heads = self._decoder.get("num_attention_heads")
        return heads if isinstance(heads, int) else None

    @property
    def is_float32(self) -> bool:
        """Whether the weight files hold numbers of four bytes."""
        return str(self._decoder.get("dtype") or self._decoder.get("torch_dtype")) == "float32"

    @property
    def _decoder(self) -> dict[str, Any]:
        return _decoder_config(self.config)

    def quantization(self, asked: str | None) -> Quantization | None:
        """Return the number format in memory; see quantization_of."""
        return quantization_of(self.config, asked)


def _decoder_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the decoder's configuration, which models that also see images keep in `text_config`."""
    return {**config, **(config.get("text_config") or {})}


def shape_of(config: dict[str, Any]) -> Shape | None:
    """Return the shape of the decoder that a config.json describes; None where its kind is not known."""
    decoder = _decoder_config(config)
    try:
        heads, hidden = int(decoder["num_attention_heads"]), int(decoder["hidden_size"])
        kind = str(decoder.get("model_type", ""))
        experts = next((int(decoder[key]) for key in _EXPERT_KEYS if decoder.get(key)), 1)
        if experts > 1 and kind not in _MIXTURES:
            return None  # Such a model may have experts of other widths or dense layers in between: no guess is made.
        # Where only some layers see a window, the others hold all tokens, so the model counts as one without a window.
        windowed = decoder.get("use_sliding_window", kind in _WINDOWED)
        every = windowed and set(decoder.get("layer_types") or ()) <= {_SLIDING}
        return Shape(
            layers=int(decoder["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(decoder["intermediate_size"]),
            heads=heads,
            kv_heads=int(decoder.get("num_key_value_heads") or heads),
            head_size=int(decoder.get("head_dim") or hidden // heads),
            vocabulary=int(decoder["vocab_size"]),
            length=int(decoder["max_position_embeddings"]),
            tied=bool(decoder.get("tie_word_embeddings", False)),
            biased=bool(decoder.get("attention_bias", kind.startswith("qwen2"))),
            experts=experts,
            experts_per_token=int(decoder.get("num_experts_per_tok") or 1),
            window=decoder.get("sliding_window") if every else None,
            width=4 if str(decoder.get("dtype") or decoder.get("torch_dtype")) == "float32" else 2,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def quantization_of(config: dict[str, Any], asked: str | None) -> Quantization | None:
    """Return the number format of a model's linear layers in an engine's memory.

    Args:
        config: The content of config.json.
        asked: The recipe's `quantization`; of plain weights, vLLM quantizes only to the formats of `_ONLINE`.

    Returns:
        The format; None for plain numbers.
    """
    stored = config.get("quantization_config")
    if not isinstance(stored, dict):
        return _ONLINE.get(asked or "")
    method = str(stored.get("quant_method", asked or "unknown"))
    if method == "compressed-tensors":
        groups = stored.get("config_groups") or {}
        weights = next((group.get("weights") for group in groups.values()), None) or {}
        return Quantization(method, int(weights.get("num_bits") or 8), int(weights.get("group_size") or 0))
    bits = int(stored.get("bits") or stored.get("w_bit") or (4 if method in ("awq", "gptq") else 8))
    return Quantization(method, bits, max(0, int(stored.get("group_size") or stored.get("q_group_size") or 0)))
