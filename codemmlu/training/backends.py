"""The backends: what loads a model with LoRA weights to be trained. Imported inside a training worker alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from codemmlu.engine import chat_template
from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings


@dataclass(frozen=True)
class LoadedModel:
    """A peft model whose LoRA weights alone are trained, its tokenizer, and the numbers it computes in."""

    model: Any
    tokenizer: Any
    precision: str  # bf16 | fp16 | fp32


class Backend(Protocol):
    """Loads a model. start: LoRA weights to go on from."""

    def __call__(self, source: str, revision: str | None, settings: FinetuneSettings, start: str | None) -> LoadedModel:
        """Seconds to minutes. Raises UserError where this machine cannot."""


def precision() -> str:
    """bf16 where the hardware multiplies it, else fp16 on a GPU and fp32 on a CPU."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"  # there is no public question of the kind


def load_with_peft(source: str, revision: str | None, settings: FinetuneSettings, start: str | None) -> LoadedModel:
    """transformers, peft and bitsandbytes: on NVIDIA GPUs and on CPUs."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    kind = precision()
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[kind]
    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    where = {"": torch.cuda.current_device()} if torch.cuda.is_available() else {"": "cpu"}
    base = AutoModelForCausalLM.from_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        device_map=where,
        quantization_config=four_bits if settings.quantization == "nf4" else None,
        attn_implementation="sdpa",
    )
    for module in base.modules():
        # On a CPU bitsandbytes 0.50 packs weights at the first evaluation into a form that has no gradient, and leaves
        # them so: what is trained afterwards learns through the other layers alone, without an error.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    chat_template.complete(tokenizer, source, revision)
    if start:
        model = PeftModel.from_pretrained(base, start, is_trainable=True)
    else:
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(settings.targets),
            bias="none",
            task_type="CAUSAL_LM",
        )
        try:
            model = get_peft_model(base, lora)
        except ValueError as error:  # no layer has such a name
            raise UserError(f"finetune.targets: {error}") from error
    return LoadedModel(model, tokenizer, kind)


def load_with_unsloth(source: str, revision: str | None, settings: FinetuneSettings, start: str | None) -> LoadedModel:
    """Unsloth's kernels: NVIDIA GPUs alone. `choose` has seen to it that there is nothing to go on from."""
    from transformers import AutoTokenizer
    from unsloth import FastLanguageModel

    assert start is None
    model, _ = FastLanguageModel.from_pretrained(
        model_name=source,
        revision=revision,
        max_seq_length=settings.max_length,
        load_in_4bit=settings.quantization == "nf4",
        dtype=None,
        use_exact_model_name=True,  # not a mirror of its own, whose weights and words are others
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        bias="none",
        use_gradient_checkpointing="unsloth" if settings.gradient_checkpointing else False,
        random_state=settings.seed,
    )
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    chat_template.complete(tokenizer, source, revision)
    return LoadedModel(model, tokenizer, precision())


BACKENDS: dict[str, Backend] = {"unsloth": load_with_unsloth, "peft": load_with_peft}


def choose(settings: FinetuneSettings, on_gpu: bool, has: Callable[[str], bool]) -> tuple[str, str]:
    """The backend, and why. has: whether a package is there. Raises UserError where the one asked for cannot run."""
    obstacles = (
        ("it needs an NVIDIA GPU", not on_gpu),
        ("it trains with one worker", settings.workers > 1),
        ("it does not go on from finetune.start", settings.start is not None),
        ("it does not tune preferences", settings.objective == "preference"),
        ("it is not installed (make setup EXTRAS=gpu,dev)", not has("unsloth")),
    )
    obstacle = next((why for why, there in obstacles if there), None)
    if settings.backend == "unsloth" and obstacle:
        raise UserError(f"finetune.backend: unsloth cannot run here: {obstacle}; set it to peft, or to auto")
    if settings.backend != "auto":
        return settings.backend, "as finetune.backend says"
    return ("peft", f"unsloth cannot run here: {obstacle}") if obstacle else ("unsloth", "its kernels are the fastest")
