"""A tiny model with random weights and a real tokenizer: what a training or an engine does shows in seconds."""

from pathlib import Path
from typing import Any

from codemmlu.engine.model_source import cache_folder, resolve


def tokenizer() -> Any:
    """Load the embedded model's tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(resolve("embedded", cache_folder()))


def tiny_model(folder: Path, spread: float = 0.02) -> Path:
    """Write a Llama of 2 layers and 64 dimensions, with the embedded model's tokenizer, as a model directory.

    Args:
        folder: Where it goes.
        spread: Of the random weights. At 0.02 all letters are about as likely, at 0.15 every prompt prefers others.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    words = tokenizer()
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(words),
        num_key_value_heads=2,
        max_position_embeddings=2048,
        initializer_range=spread,
        **shape,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def tiny_mixtral(folder: Path) -> Path:
    """Write a Mixtral of four experts, of which two look at each token, behind the embedded model's tokenizer."""
    import torch
    from transformers import MixtralConfig, MixtralForCausalLM

    words = tokenizer()
    words.save_pretrained(folder)
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=len(words),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
        max_position_embeddings=4096,
        initializer_range=0.15,  # wide, so that which experts look makes a difference
    )
    MixtralForCausalLM(config).save_pretrained(folder)
    return folder
