"""Messages: what the hardware lacks for a model, each in one line that also says what would do."""

from collections.abc import Sequence

from codemmlu.engine.placement.gpus import GPUS, Gpu, Node, Resources
from codemmlu.engine.placement.memory import Memory, ParallelLayout, Shortfall
from codemmlu.engine.placement.model_facts import ModelFacts, Shape
from codemmlu.engine.placement.parallelism import PlacementRequest, feasible_layouts, memory_of
from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings

# The CUDA capability (75 for 7.5) that vLLM 0.32 requires of a GPU for each quantization.
_NEEDS = {
    **{"awq": 75, "gptq": 60, "moe_wna16": 70, "fbgemm_fp8": 80, "experts_int8": 80, "mxfp4": 80},
    **dict.fromkeys(("fp8", "fp8_per_tensor", "fp8_per_channel", "fp8_per_block", "int8_per_channel_weight_only"), 75),
}
# The least CUDA capability that vLLM's and PyTorch's wheels for CUDA 13 have kernels for.
_KERNELS = 75
# The kinds of model that vLLM 0.32 refuses to compute in float16, whose numbers overflow.
_NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "glm4")
# The CUDA capability that PyTorch requires of a GPU for bfloat16.
BFLOAT16 = 80


def too_old(key: str, settings: ModelSettings, facts: ModelFacts, kind: str, gpu: Gpu) -> UserError | None:
    """Return the error of a GPU that cannot compute in the model's number format; None where it can."""
    quantization = facts.quantization(settings.quantization)
    method = quantization.method if quantization else ""
    needs = _NEEDS.get(settings.quantization or "", _NEEDS.get(method, 0))
    if gpu.capability < needs:
        name = settings.quantization or method
        return UserError(
            f"{name} needs a GPU of CUDA capability {needs / 10}, {kind} is older", key=f"{key}.quantization"
        )
    if gpu.capability < _KERNELS:
        return UserError(
            f"{kind} has CUDA capability {gpu.capability / 10}, and vLLM's wheels have kernels from "
            f"{_KERNELS / 10} on; take a T4 or a later GPU",
            key=key,
        )
    model_type = str(facts.config.get("model_type"))
    if model_type in _NO_FLOAT16 and gpu.capability < BFLOAT16 and settings.dtype in ("auto", "float16"):
        return UserError(
            f"{model_type} does not compute in float16, and {kind} does not in bfloat16; set it to "
            "float32, which takes twice the memory, or take a later GPU",
            key=f"{key}.dtype",
        )
    if settings.dtype == "bfloat16" and gpu.capability < BFLOAT16:
        return UserError(
            f"{kind} does not compute in bfloat16; set it to float16, or leave it at auto", key=f"{key}.dtype"
        )
    return None


def too_few(key: str, settings: ModelSettings, nodes: Sequence[Node], layout: ParallelLayout) -> UserError:
    """Return the error of nodes that have too few GPUs for the engines that the recipe asks for."""
    wanted = f"{(settings.engines or (1, 1))[0]} x {layout.gpus}"
    available = " + ".join(str(node.gpus) for node in nodes)
    where = "an engine's on one node" if layout.pipeline == 1 else f"each stage's {layout.tensor} on one node"
    return UserError(
        f"{wanted} GPUs are asked for, {where}; there are {available}; lower {key}.tensor_parallel or {key}.replicas",
        key=key,
    )


def too_little(
    request: PlacementRequest, resources: Resources, kind: str | None, layout: ParallelLayout, short: Shortfall
) -> UserError:
    """Return the error of a model that does not fit the memory of the GPUs, with the nearest change that would fit.

    Args:
        request: The model.
        resources: The hardware that there is.
        kind: The kind of GPU that was tried.
        layout: The layout that was tried.
        short: What is missing with this layout.

    Returns:
        The error, which offers a smaller batch, a shorter context, or else other GPUs.
    """
    key, settings, facts = request.key, request.settings, request.facts
    need = (
        f"an engine on {layout.gpus} x {kind} needs {short.needed:.1f} GiB on each GPU (weights "
        f"{short.weights:.1f}, the rest for {short.length:,} tokens), and may take {short.usable:.1f}"
    )
    gpu = GPUS.get(kind or "")
    for name, value in (("max_num_seqs", "at_once"), ("max_model_len", "length")):
        memory = memory_of(settings.model_copy(update={name: None}), facts, layout, gpu)
        if isinstance(memory, Memory):
            return UserError(f"{need}; {key}.{name}={getattr(memory, value)} would fit", key=key)
    freed = ("max_model_len", "max_num_seqs", "tensor_parallel", "pipeline_parallel", "replicas")
    free = settings.model_copy(update=dict.fromkeys(freed))
    more = [Node(count, kind) for count in (2, 4, 8) if count > layout.gpus]
    for node in (*more, *(Node(1, other) for other in GPUS)):
        offer, offered_gpu = Resources((node,)), GPUS.get(node.gpu or "")
        if facts and offered_gpu and too_old(key, settings, facts, node.gpu or "", offered_gpu):
            continue
        if offer != resources and feasible_layouts(free, (node,), offered_gpu, facts)[0]:
            return UserError(f"{need}; {offer} would hold it", key=key)
    return UserError(f"{need}; a model with weights of 4 bits (AWQ, GPTQ) takes a quarter", key=key)


def check_experts(key: str, wanted: int, shape: Shape) -> None:
    """Refuse a number of experts per token that the model does not have.

    Args:
        key: The recipe's key of the model, for error messages.
        wanted: The recipe's `experts_per_token`.
        shape: The shape of the model.

    Raises:
        UserError: The model is no mixture of experts, or has fewer experts.
    """
    if shape.experts == 1:
        raise UserError("this model has no experts to choose from; remove it", key=f"{key}.experts_per_token")
    if wanted > shape.experts:
        raise UserError(
            f"{wanted} of {shape.experts} experts; give {shape.experts} at most", key=f"{key}.experts_per_token"
        )
