"""A tiny model with random weights and a real tokenizer: what a training does shows in seconds."""

from pathlib import Path

from codemmlu.engine.sources import cache_folder, materialise


def tiny_model(folder: Path) -> Path:
    """A Llama of 2 layers and 64 dimensions, and the embedded model's tokenizer, as a model directory."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(materialise("embedded", cache_folder()))
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=2048, **shape)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
