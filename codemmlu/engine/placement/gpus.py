"""Hardware: the kinds of GPU that engines run on, and what a cluster, or `--gpus`, has of them. Plain values."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from codemmlu.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, by its maker's data sheet.

    memory_gib: as a program sees it, a little less than the sheet says; capability: CUDA's, as 75 for 7.5
    flops: dense 16-bit FLOP/s
    """

    memory_gib: float
    capability: int
    flops: float


# By short names; Ray's own for most (`accelerator_type:T4`), see LABELS.
GPUS = {
    "T4": Gpu(14.56, 75, 65e12),
    "V100": Gpu(15.77, 70, 125e12),
    "L4": Gpu(22.03, 89, 121e12),
    "A10G": Gpu(22.07, 86, 70e12),
    "RTX3090": Gpu(23.57, 86, 71e12),
    "RTX4090": Gpu(23.53, 89, 165e12),
    "A100": Gpu(39.39, 80, 312e12),
    "A100-40G": Gpu(39.39, 80, 312e12),
    "A100-80G": Gpu(79.14, 80, 312e12),
    "L40S": Gpu(44.39, 89, 362e12),
    "H100": Gpu(79.11, 90, 989e12),
    "H200": Gpu(139.72, 90, 989e12),
    "B200": Gpu(178.35, 100, 2250e12),
}


# What Ray calls the others.
LABELS = {"A100-40G": "A100", "A100-80G": "A100", "RTX3090": "GeForce-RTX-3090", "RTX4090": "GeForce-RTX-4090"}


@dataclass(frozen=True)
class Node:
    """One machine's GPUs. gpu: their kind, a key of GPUS, or None where it is not known."""

    gpus: int
    gpu: str | None = None


@dataclass(frozen=True)
class Resources:
    """What a cluster, or `--gpus`, has. nodes: those with GPUs.

    elastic: the nodes are not there yet: the cluster starts them when engines wait for GPUs
    """

    nodes: tuple[Node, ...] = ()
    cpus: int = 1
    elastic: bool = False

    @property
    def gpus(self) -> int:
        """All GPUs together."""
        return sum(node.gpus for node in self.nodes)

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The kinds of GPU there are, in the order of the nodes."""
        return tuple(dict.fromkeys(node.gpu for node in self.nodes))

    def of(self, kind: str | None) -> tuple[Node, ...]:
        """The nodes with GPUs of a kind."""
        return tuple(node for node in self.nodes if node.gpu == kind)

    def __str__(self) -> str:
        if not self.gpus:
            return f"{self.cpus} CPU core{'s' * (self.cpus != 1)}"
        said = " + ".join(
            f"{f'{count} nodes of ' if count > 1 else ''}{node.gpus} x {node.gpu or 'GPU'}"
            for node, count in Counter(self.nodes).items()
        )
        return f"up to {said}" if self.elastic else said


def kind_of(name: str) -> str | None:
    """The kind of GPU that a name means: `t4`, `Tesla T4`, `NVIDIA H100 80GB HBM3`; None: no kind that is known."""
    if name.upper() in GPUS:
        return name.upper()
    words = re.findall(r"[A-Z0-9]+", name.upper())
    if "A100" in words and any(word.startswith("80G") for word in words):
        return "A100-80G"
    said = {*words, *map("".join, pairwise(words))}
    return next((kind for kind in GPUS if kind.replace("-", "") in said), None)


def kinds_here() -> list[str | None]:
    """The kind of each GPU of this machine, by what NVIDIA's driver says of it; none without one."""
    told = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    models = [re.search(r"^Model:\s*(.+)$", file.read_text(errors="replace"), re.MULTILINE) for file in told]
    return [kind_of(model[1]) if model else None for model in models]


# What a processor says of itself where its matrix products take bfloat16, or where oneDNN has fast code for it all the
# same. Without any of these they take a hundred times those in float32 (measured with AVX2: 0.7 and 64 GFLOPS).
_BFLOAT16 = {"avx512f", "amx_bf16", "avx_vnni_int16", "bf16"}


def multiplies_bfloat16(cpuinfo: str) -> bool:
    """Whether a processor is good at bfloat16, by its /proc/cpuinfo; one that says nothing of its kind is."""
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return told is None or bool(_BFLOAT16 & set(told[1].split()))


def grown(text: str, cpus: int) -> Resources:
    """The recipe's `gpus`: what a cluster may grow to, beside the cores it has. Raises UserError."""
    return replace(simulated(text, "gpus:"), cpus=cpus, elastic=True)


def simulated(text: str, said: str = "--gpus") -> Resources:
    """`--gpus` as resources: 2xT4, 4x4xL4 (four nodes of four), 1xT4+8xH100. Raises UserError, which names `said`."""
    nodes: list[Node] = []
    for part in text.split("+"):
        match = re.fullmatch(r"(?:([0-9]+)x)?([0-9]+)x([A-Za-z][A-Za-z0-9-]*)", part)
        count, gpus = (int(match[1] or 1), int(match[2])) if match else (0, 0)
        if not match or count * gpus < 1 or count * gpus > 100_000:
            raise UserError(f"{said} {text!r}: write how many of which kind: 2xT4, 4x4xL4 (nodes first), 1xT4+8xH100")
        if (kind := kind_of(match[3])) is None:
            raise UserError(f"{said} {text!r}: nothing is known of a GPU {match[3]!r}; kinds: {', '.join(GPUS)}")
        nodes += [Node(gpus, kind)] * count
    return Resources(tuple(nodes))
