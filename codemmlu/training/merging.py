"""Merging: LoRA weights added to the model they were trained for, which any engine then serves."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from codemmlu.engine import chat_template, lora, model_source
from codemmlu.engine.adapter_store import folder_of
from codemmlu.run_dir import RunDir
from codemmlu.training.backends import SAFE


def merge_adapter(address: str, name: str, model: model_source.Model, trust_remote_code: bool = False) -> str:
    """Merge an adapter of a run into its model, which is written to the run directory.

    Args:
        address: The run directory.
        name: Name of the adapter.
        model: The model that the adapter was trained for.
        trust_remote_code: Whether Python code that comes with the model may run.

    Returns:
        Where the merged model is, as shown to the user.
    """
    run = RunDir(address)
    folder = f"merged/{name}"
    run.clear(folder)
    cache = model_source.cache_folder()
    with TemporaryDirectory() as scratch:
        adapter = lora.local(run.below(folder_of(name)).address, cache)
        merged(model_source.resolve(model.source, cache), model.revision, str(adapter), scratch, trust_remote_code)
        # A tokenizer with several chat templates keeps some in a folder of their own.
        files = [str(file.relative_to(scratch)) for file in Path(scratch).rglob("*") if file.is_file()]
        # config.json comes last, as it says that the model is complete.
        for file in sorted(files, key=lambda file: (file == "config.json", file)):
            if file == "config.json":
                run.write(f"{folder}/{lora.LEARNT}", (adapter / lora.LEARNT).read_bytes())
            run.write(f"{folder}/{file}", (Path(scratch) / file).read_bytes())
    return run.below(folder).shown


def merged(source: str, revision: str | None, adapter: str, folder: str, trust_remote_code: bool = False) -> None:
    """Write the merged model to `folder` as safetensors, in the model's own number format."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trust = trust_remote_code
    base: Any = AutoModelForCausalLM.from_pretrained(
        source, revision=revision, dtype="auto", trust_remote_code=trust, **SAFE
    )
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust)
    chat_template.complete(tokenizer, source, revision)
    tokenizer.save_pretrained(folder)
