"""An engine that does not start says why: the cause stands in the log of its process, and what helps is added."""

from pathlib import Path

import pytest

from codemmlu.engine.start_failure import StartLog, explain

SEE_ABOVE = RuntimeError(
    "Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}"
)
CAUSES = {
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.": "the GPU's memory is full: lower models.m",
    "ValueError: Free memory on device (2/15 GiB) on startup is less than desired GPU memory utilization": "nvidia-smi",
    "ValueError: No available memory for the cache blocks.": "lower models.m.max_model_len",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 12040).": "a newer NVIDIA driver",
    "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device": "take another GPU",
    "RuntimeError: NCCL error: unhandled system error": "NCCL_P2P_DISABLE=1",
    "RuntimeError: FlashInfer requires nvcc of CUDA 13": "VLLM_USE_FLASHINFER_SAMPLER=0",
    "ValueError: Following weights were not initialized from checkpoint: {'lm_head.weight'}": "an incomplete copy",
    "ValueError: please pass the argument `trust_remote_code=True`": "models.m.trust_remote_code=true",
    "ValueError: The model type 'gemma2' does not support float16. Reason: Numerical instability.": "models.m.dtype",
    "ImportError: libcudart.so.13: cannot open shared object file": "set up again",
    "OSError: [Errno 28] No space left on device": "the disk is full",
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_cause_in_the_log_is_told_with_what_helps(cause: str) -> None:
    log = [
        "(EngineCore pid=77) INFO 11-28 07:04:13 [core.py:99] Initializing a V1 LLM engine",
        "(EngineCore pid=77) ERROR 11-28 07:04:13 [core.py:1100] EngineCore failed to start.",
        "(EngineCore pid=77) ERROR 11-28 07:04:13 [core.py:1100] Traceback (most recent call last):",
        f"(EngineCore pid=77) ERROR 11-28 07:04:13 [core.py:1100] {cause}",
        "(EngineCore pid=77) RuntimeError: Worker failed",
    ]
    text = explain(SEE_ABOVE, log, "m")
    assert text.startswith(f"{cause}; ")
    assert CAUSES[cause] in text


def test_a_cause_that_is_not_known_is_told_as_it_is() -> None:
    log = ["ERROR 11-28 07:04:13 [core.py:1100] ValueError: something new", "RuntimeError: later"]
    assert explain(SEE_ABOVE, log) == "ValueError: something new"
    assert explain(ValueError("told\n at once"), []) == "told at once"


def test_a_process_that_was_killed_is_said() -> None:
    killed = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'E': -9}")
    assert "its process was killed (signal 9), mostly because the machine's memory is full" in explain(killed, [])


def test_only_what_was_written_since_the_start_counts(tmp_path: Path) -> None:
    """vLLM logs to the standard output, its predecessors in this process did so too."""
    out, err = tmp_path / "out", tmp_path / "err"
    out.write_text("ValueError: of an earlier engine\n")
    err.write_text("")
    log = StartLog([out, err, tmp_path / "no file"])
    with out.open("a") as stream:
        stream.write("ERROR [core.py:1] ValueError: of this engine\n")
    assert explain(SEE_ABOVE, log.lines()) == "ValueError: of this engine"
