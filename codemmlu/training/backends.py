"""The backends, which load a model with LoRA weights to be trained.

The libraries of a backend are imported inside a training worker alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from codemmlu.engine import chat_template
from codemmlu.errors import UserError
from codemmlu.recipe import FinetuneSettings
from codemmlu.training.targets import check_targets

# Pickled weights run code when they are read.
SAFE = {"use_safetensors": True}


@dataclass(frozen=True)
class LoadedModel:
    """A model that is loaded for training.

    Attributes:
        model: A peft model, of which only the LoRA weights are trained.
        tokenizer: The tokenizer, with its chat template.
        precision: The number format of the computation: `bf16`, `fp16` or `fp32`.
    """

    model: Any
    tokenizer: Any
    precision: str


class Backend(Protocol):
    """A function that loads a model."""

    def __call__(
        self, source: str, revision: str | None, settings: FinetuneSettings, start: str | None, trust: bool = False
    ) -> LoadedModel:
        """Load a model, which takes seconds to minutes.

        Args:
            source: Directory or Hub id of the model.
            revision: Revision of a model on the Hub.
            settings: The recipe's section `finetune`.
            start: Directory of the LoRA weights to go on from; None: new weights.
            trust: Whether Python code that comes with the model may run.

        Returns:
            The model, with LoRA weights to be trained.

        Raises:
            UserError: The model cannot be trained with these settings on this machine.
        """


def precision() -> str:
    """Return `bf16` where the hardware multiplies bf16 numbers, else `fp16` on a GPU and `fp32` on a CPU."""
    import torch

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "fp32"  # torch has no public function for this


def load_with_peft(
    source: str, revision: str | None, settings: FinetuneSettings, start: str | None, trust: bool = False
) -> LoadedModel:
    """Load a model with transformers, peft and bitsandbytes, on NVIDIA GPUs and on CPUs."""
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
    device_map = {"": torch.cuda.current_device()} if torch.cuda.is_available() else {"": "cpu"}
    base = AutoModelForCausalLM.from_pretrained(
        source,
        revision=revision,
        dtype=dtype,
        device_map=device_map,
        quantization_config=four_bits if settings.quantization == "nf4" else None,
        attn_implementation="sdpa",
        trust_remote_code=trust,
        **SAFE,
    )
    for module in base.modules():
        # On a CPU, bitsandbytes 0.50 packs weights at the first evaluation into a form that has no gradient, and leaves
        # them packed: later training learns through the other layers alone, without an error.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust)
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
            layers_to_transform=_trained_layers(base, settings),
        )
        check_targets(base, settings.targets)
        model = get_peft_model(base, lora)
    return LoadedModel(model, tokenizer, kind)


def _trained_layers(base: Any, settings: FinetuneSettings) -> list[int] | None:
    """Return the numbers of the layers that have weights to train; None: all of them."""
    if not settings.frozen_layers:
        return None
    from codemmlu.training.frozen import check_frozen

    return list(range(settings.frozen_layers, check_frozen(base, settings.frozen_layers)))


def load_with_unsloth(
    source: str, revision: str | None, settings: FinetuneSettings, start: str | None, trust: bool = False
) -> LoadedModel:
    """Load a model with Unsloth's kernels, on NVIDIA GPUs alone; `choose` makes sure that `start` is None."""
    from transformers import AutoTokenizer
    from unsloth import FastLanguageModel

    assert start is None
    model, _ = FastLanguageModel.from_pretrained(
        model_name=source,
        revision=revision,
        max_seq_length=settings.max_length,
        load_in_4bit=settings.quantization == "nf4",
        dtype=None,
        trust_remote_code=trust,
        **SAFE,
        use_exact_model_name=True,  # Unsloth's mirror of a model has other weights and another tokenizer
    )
    check_targets(model, settings.targets)
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
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=trust)
    chat_template.complete(tokenizer, source, revision)
    return LoadedModel(model, tokenizer, precision())


BACKENDS: dict[str, Backend] = {"unsloth": load_with_unsloth, "peft": load_with_peft}


def _is_peft_only(settings: FinetuneSettings) -> bool:
    return settings.frozen_layers > 0 or settings.packing or settings.compile


def choose(settings: FinetuneSettings, on_gpu: bool, has: Callable[[str], bool]) -> tuple[str, str]:
    """Choose the backend of a training.

    Args:
        settings: The recipe's section `finetune`.
        on_gpu: Whether there is an NVIDIA GPU.
        has: Tells whether a package is installed, by its name.

    Returns:
        A name in BACKENDS, and the reason for the choice.

    Raises:
        UserError: The backend that the recipe names cannot run.
    """
    obstacles = (
        ("it needs an NVIDIA GPU", not on_gpu),
        ("it trains with one worker", settings.workers > 1),
        ("it does not go on from finetune.start", settings.start is not None),
        ("it does not tune preferences", settings.objective == "preference"),
        ("it trains every layer, and neither packs nor compiles here", _is_peft_only(settings)),
        ("it is not installed (make setup EXTRAS=gpu,dev)", not has("unsloth")),
    )
    obstacle = next((reason for reason, applies in obstacles if applies), None)
    if settings.backend == "unsloth" and obstacle:
        raise UserError(f"unsloth cannot run here: {obstacle}; set it to peft, or to auto", key="finetune.backend")
    if settings.backend != "auto":
        return settings.backend, "as finetune.backend says"
    return ("peft", f"unsloth cannot run here: {obstacle}") if obstacle else ("unsloth", "its kernels are the fastest")
