"""Refusals: what the hardware lacks for a model, in one line that says what would do."""

from collections.abc import Sequence

from codemmlu.engine.placement.gpus import GPUS, Gpu, Node, Resources
from codemmlu.engine.placement.memory import Memory, ModelFacts, ParallelLayout, Shape, Shortfall
from codemmlu.engine.placement.parallelism import feasible_layouts, memory_of
from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings

# The least CUDA capability (75 for 7.5) that vLLM 0.32 asks of a GPU for weights kept so, and PyTorch for bfloat16.
_NEEDS = {
    **{"awq": 75, "gptq": 60, "moe_wna16": 70, "fbgemm_fp8": 80, "experts_int8": 80, "mxfp4": 80},
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "int8_per_channel_weight_only"), 75),
}
BFLOAT16 = 80


def too_old(key: str, settings: ModelSettings, known: ModelFacts, kind: str, gpu: Gpu) -> UserError | None:
    """What a kind of GPU cannot compute."""
    kept = known.quantization(settings.quantization)
    needs = _NEEDS.get(settings.quantization or "", _NEEDS.get(kept.method if kept else "", 0))
    if gpu.capability < needs:
        what = settings.quantization or (kept.method if kept else "")
        return UserError(f"{key}.quantization: {what} needs a GPU of CUDA capability {needs / 10}, {kind} is older")
    if settings.dtype == "bfloat16" and gpu.capability < BFLOAT16:
        return UserError(f"{key}.dtype: {kind} does not compute in bfloat16; set it to float16, or leave it at auto")
    return None


def too_few(key: str, settings: ModelSettings, nodes: Sequence[Node], layout: ParallelLayout) -> UserError:
    wanted = f"{(settings.engines or (1, 1))[0]} x {layout.gpus}"
    there = " + ".join(str(node.gpus) for node in nodes)
    where = "an engine's on one node" if layout.pipeline == 1 else f"each stage's {layout.tensor} on one node"
    return UserError(
        f"{key}: {wanted} GPUs are asked for, {where}; there are {there}; lower {key}.tensor_parallel or {key}.replicas"
    )


def too_little(
    key: str,
    settings: ModelSettings,
    resources: Resources,
    known: ModelFacts | None,
    kind: str | None,
    layout: ParallelLayout,
    short: Shortfall,
) -> str:
    """What does not fit, and the nearest thing that would."""
    on = f"{layout.gpus} x {kind}"
    need = (
        f"{key}: an engine on {on} needs {short.needed:.1f} GiB on each GPU (weights {short.weights:.1f}, the rest for "
        f"{short.length:,} tokens), and may take {short.usable:.1f}"
    )
    gpu = GPUS.get(kind or "")
    for name, value in (("max_num_seqs", "at_once"), ("max_model_len", "length")):
        memory = memory_of(settings.model_copy(update={name: None}), known, layout, gpu)
        if isinstance(memory, Memory):
            return f"{need}; {key}.{name}={getattr(memory, value)} would fit"
    freed = ("max_model_len", "max_num_seqs", "tensor_parallel", "pipeline_parallel", "replicas")
    free = settings.model_copy(update=dict.fromkeys(freed))
    more = [Node(count, kind) for count in (2, 4, 8) if count > layout.gpus]
    for offer in (*more, *(Node(1, other) for other in GPUS)):
        offered, its = Resources((offer,)), GPUS.get(offer.gpu or "")
        if known and its and too_old(key, settings, known, offer.gpu or "", its):
            continue
        if offered != resources and feasible_layouts(free, (offer,), its, known)[0]:
            return f"{need}; {offered} would hold it"
    return f"{need}; a model with weights of 4 bits (AWQ, GPTQ) takes a quarter"


def check_experts(key: str, wanted: int, shape: Shape) -> None:
    if shape.experts == 1:
        raise UserError(f"{key}.experts_per_token: this model has no experts to choose from; remove it")
    if wanted > shape.experts:
        raise UserError(f"{key}.experts_per_token: {wanted} of {shape.experts} experts; give {shape.experts} at most")
