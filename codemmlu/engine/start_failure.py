"""Why an engine did not start: the first error of its log that explains it, with what helps.

vLLM's engine processes write their errors to the standard output of the actor, and tell the actor only to look there.
"""

import re
from collections.abc import Iterable
from pathlib import Path

# The standard output and error of this process: with Ray they are files.
_STREAMS = (Path("/proc/self/fd/1"), Path("/proc/self/fd/2"))
# A logged error: `ERROR 11-28 07:04:13 [core.py:1100] ValueError: why`, or the last line of a traceback.
_ERROR = re.compile(r"^(?:.*?\] |\([^)]*\) )?\s*((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt): .+)$")
# The most common causes, and what helps; the first that a log shows is the one to tell.
_REMEDIES = (
    (
        r"CUDA out of memory|OutOfMemoryError",
        "the GPU's memory is full: lower models.{name}.max_model_len or max_num_seqs, raise tensor_parallel, or end "
        "what else uses the GPU (nvidia-smi)",
    ),
    (
        r"Free memory on device .* less than desired|less than desired GPU memory utilization",
        "something else uses the GPU: end it (nvidia-smi), or lower models.{name}.gpu_memory_utilization",
    ),
    (
        r"No available memory for the cache blocks|KV cache is needed|maximum number of tokens that can be stored",
        "lower models.{name}.max_model_len, or raise gpu_memory_utilization or tensor_parallel",
    ),
    (
        r"driver on your system is too old|driver version is insufficient|forward compatibility",
        "install a newer NVIDIA driver (CUDA 13 needs 580 or later; nvidia-smi shows it)",
    ),
    (
        r"no kernel image is available|not compatible with the current PyTorch installation",
        "this GPU is older than vLLM's kernels (CUDA capability 7.5); take another GPU",
    ),
    (
        r"NCCL|ncclSystemError|ncclUnhandledCudaError|ProcessGroupNCCL",
        "the GPUs cannot talk to each other: set NCCL_P2P_DISABLE=1 in the environment and "
        "models.{name}.engine.disable_custom_all_reduce=true",
    ),
    (
        r"flashinfer|FlashInfer|nvcc|ninja",
        "FlashInfer cannot compile its kernels here: set VLLM_USE_FLASHINFER_SAMPLER=0 in the environment, or install "
        "CUDA's compiler (nvcc) of PyTorch's version",
    ),
    (
        r"not initialized from checkpoint|were not initialized|size mismatch|shape mismatch|KeyError: '.*weight",
        "the weight files do not fit the model: an incomplete copy, or files of another model; download it again",
    ),
    (
        r"trust_remote_code",
        "the model brings Python code of its own: models.{name}.trust_remote_code=true lets it run",
    ),
    (
        r"does not support float16|Bfloat16 is only supported",
        "set models.{name}.dtype to a format that this GPU computes in (float32 takes twice the memory)",
    ),
    (
        r"architectures .* (are|is) not supported|does not recognize this architecture",
        "this version of vLLM or transformers does not know the model; take another model",
    ),
    (r"libcud\w+\.so|libcudart", "PyTorch's CUDA libraries are missing: set up again (make setup EXTRAS=gpu,dev)"),
    (r"No space left on device|os error 28", "the disk is full: make room, or set HF_HOME to another disk"),
)
_MOST = 600  # characters of a message


class StartLog:
    """The part of this process's log that an engine writes while it starts."""

    def __init__(self, streams: Iterable[Path] = _STREAMS) -> None:
        """Remember where the log ends now."""
        self._ends = {stream: stream.stat().st_size for stream in streams if stream.is_file()}

    def lines(self) -> list[str]:
        """Return the lines that were written since."""
        lines: list[str] = []
        for stream, end in self._ends.items():
            with stream.open("rb") as log:
                log.seek(end if stream.stat().st_size >= end else 0)
                lines += log.read().decode(errors="replace").splitlines()
        return lines


def explain(error: BaseException, lines: Iterable[str], name: str = "NAME") -> str:
    """Return why an engine did not start, in one line.

    Args:
        error: What vLLM raised.
        lines: The log of the start.
        name: The name of the model in the recipe.

    Returns:
        The error that explains most, and what helps.
    """
    errors = [match[1] for line in lines if (match := _ERROR.match(line.rstrip()))]
    own = one_line(error)
    killed = re.search(r"Failed core proc\(s\): \{[^}]*: -9\b", own)
    candidates = [*errors, own] if "root cause above" in own else [own, *errors]
    for text in candidates:
        for pattern, remedy in _REMEDIES:
            if re.search(pattern, text):
                return f"{one_line(text)}; {remedy.format(name=name)}"
    if killed and not errors:
        return (
            "its process was killed (signal 9), mostly because the machine's memory is full: give it more memory, a "
            f"smaller model, or a lower models.{name}.cpu_kv_cache_gib"
        )
    return one_line(candidates[0])


def one_line(error: object) -> str:
    """Return an error's text in one line of limited length."""
    return " ".join(str(error).split())[:_MOST]
