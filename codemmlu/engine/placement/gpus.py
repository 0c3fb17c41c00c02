"""GPUs: the kinds that engines run on, and the GPUs that a cluster or `--gpus` has. Plain values."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from pathlib import Path

from codemmlu.errors import UserError


class Device(Enum):
    """The kind of hardware that an engine computes on."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, with the numbers of NVIDIA's data sheet.

    Attributes:
        memory_gib: The memory that a program sees, a little less than the data sheet says.
        capability: The CUDA compute capability, times ten: 75 for 7.5.
        flops: FLOP/s of dense matrix products in 16 bits.
    """

    memory_gib: float
    capability: int
    flops: float


# The kinds by their short names. Ray uses the same names for most of them (`accelerator_type:T4`), see LABELS.
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


# Ray's names of the kinds that Ray calls differently.
LABELS = {"A100-40G": "A100", "A100-80G": "A100", "RTX3090": "GeForce-RTX-3090", "RTX4090": "GeForce-RTX-4090"}


@dataclass(frozen=True)
class Node:
    """The GPUs of one machine.

    Attributes:
        gpus: How many GPUs the machine has.
        gpu: Their kind, a key of GPUS; None where it is not known.
    """

    gpus: int
    gpu: str | None = None


@dataclass(frozen=True)
class Resources:
    """The hardware of a cluster, or of `--gpus`.

    Attributes:
        nodes: The nodes that have GPUs.
        cpus: CPU cores.
        elastic: Whether the nodes do not run yet: the cluster starts them when engines wait for GPUs.
    """

    nodes: tuple[Node, ...] = ()
    cpus: int = 1
    elastic: bool = False

    @property
    def gpus(self) -> int:
        """The number of GPUs of all nodes."""
        return sum(node.gpus for node in self.nodes)

    @property
    def device(self) -> Device:
        """The hardware that engines run on: the GPUs, where there are some."""
        return Device.GPU if self.gpus else Device.CPU

    @property
    def kinds(self) -> tuple[str | None, ...]:
        """The different kinds of GPU, in the order of the nodes."""
        return tuple(dict.fromkeys(node.gpu for node in self.nodes))

    def of(self, kind: str | None) -> tuple[Node, ...]:
        """Return the nodes whose GPUs are of a kind."""
        return tuple(node for node in self.nodes if node.gpu == kind)

    def __str__(self) -> str:
        """Return the hardware as the user reads it: `2 nodes of 4 x L4`."""
        if not self.gpus:
            return f"{self.cpus} CPU core{'s' * (self.cpus != 1)}"
        text = " + ".join(
            f"{f'{count} nodes of ' if count > 1 else ''}{node.gpus} x {node.gpu or 'GPU'}"
            for node, count in Counter(self.nodes).items()
        )
        return f"up to {text}" if self.elastic else text


def kind_of(name: str) -> str | None:
    """Return the kind that a GPU's name means (`t4`, `NVIDIA H100 80GB HBM3`); None for an unknown one."""
    if name.upper() in GPUS:
        return name.upper()
    words = re.findall(r"[A-Z0-9]+", name.upper())
    if "A100" in words and any(word.startswith("80G") for word in words):
        return "A100-80G"
    candidates = {*words, *map("".join, pairwise(words))}  # "RTX 4090" is two words of one name
    return next((kind for kind in GPUS if kind.replace("-", "") in candidates), None)


_DRIVER = Path("/proc/driver/nvidia/gpus")  # where NVIDIA's driver describes each GPU


def kinds_here() -> list[str | None]:
    """Return the kind of each GPU of this machine, as NVIDIA's driver names it; empty without a driver."""
    files = sorted(_DRIVER.glob("*/information"))
    if not files:  # Windows' driver (WSL2) has no such files.
        return [kind_of(name) for name in _names_from_tool()]
    models = [re.search(r"^Model:\s*(.+)$", file.read_text(errors="replace"), re.MULTILINE) for file in files]
    return [kind_of(model[1]) if model else None for model in models]


def _names_from_tool() -> list[str]:
    """Return the name of each GPU as nvidia-smi prints it; empty without it."""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


# CPU flags of processors that multiply matrices of bfloat16, or for which oneDNN has fast code all the same. On other
# processors such products take a hundred times as long as in float32 (measured with AVX2: 0.7 and 64 GFLOPS).
_BFLOAT16 = {"avx512f", "amx_bf16", "avx_vnni_int16", "bf16"}


def multiplies_bfloat16(cpuinfo: str) -> bool:
    """Return whether a processor is fast at bfloat16, by its /proc/cpuinfo; true if that lists no flags."""
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return flags is None or bool(_BFLOAT16 & set(flags[1].split()))


def grown(text: str, cpus: int) -> Resources:
    """Return the resources that the recipe's `gpus` lets a cluster grow to, with the cores that it has."""
    return replace(simulated(text, "gpus:"), cpus=cpus, elastic=True)


def simulated(text: str, option: str = "--gpus") -> Resources:
    """Parse the value of `--gpus`: 2xT4, 4x4xL4 (four nodes of four), 1xT4+8xH100.

    Args:
        text: The value.
        option: The option or recipe key that it is the value of, for error messages.

    Returns:
        Nodes with GPUs; CPU cores are not part of the value.

    Raises:
        UserError: The value is malformed, or names a kind of GPU that is not known.
    """
    nodes: list[Node] = []
    for part in text.split("+"):
        match = re.fullmatch(r"(?:([0-9]+)x)?([0-9]+)x([A-Za-z][A-Za-z0-9-]*)", part)
        count, gpus = (int(match[1] or 1), int(match[2])) if match else (0, 0)
        if not match or count * gpus < 1 or count * gpus > 100_000:
            raise UserError(f"{option} {text!r}: write how many of which kind: 2xT4, 4x4xL4 (nodes first), 1xT4+8xH100")
        if (kind := kind_of(match[3])) is None:
            raise UserError(f"{option} {text!r}: nothing is known of a GPU {match[3]!r}; kinds: {', '.join(GPUS)}")
        nodes += [Node(gpus, kind)] * count
    return Resources(tuple(nodes))
