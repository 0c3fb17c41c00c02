"""Merging: LoRA weights added to the model they were trained for, which any engine then serves."""

from typing import Any


def merged(source: str, revision: str | None, adapter: str, folder: str) -> None:
    """Writes the merged model to `folder` as safetensors, in the model's own number format."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base: Any = AutoModelForCausalLM.from_pretrained(source, revision=revision, dtype="auto")
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, revision=revision).save_pretrained(folder)
