"""Settings of the machine that an engine runs on: its cores, and the dtype that is quick there."""

import os
from pathlib import Path
from typing import Any

import pytest

from codemmlu.engine import vllm_engine
from codemmlu.engine.placement.gpus import Device
from codemmlu.engine.vllm_engine import cpu_binding, dtype_here, set_environment

ON_CPU: dict[str, Any] = {"dtype": "auto", "tensor_parallel_size": 1, "kv_cache_memory_bytes": 2**20}


@pytest.mark.parametrize(
    ("cores", "ranks", "binding"),
    [
        ([0, 1], 1, "0,1"),
        ([0, 1], 2, "0|1"),
        ([4, 6, 8, 9, 12], 2, "4,6|8,9"),
        ([3], 2, "3|3"),
    ],
)
def test_every_part_of_an_engine_has_cores_of_its_own(cores: list[int], ranks: int, binding: str) -> None:
    """Where there are fewer cores than parts, each gets all."""
    assert cpu_binding(cores, ranks) == binding


def test_only_an_engine_on_the_cpu_is_bound_to_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"OMP_NUM_THREADS": "1"})  # as Ray sets it in an actor
    set_environment(Device.GPU, ON_CPU)
    assert not {"VLLM_CPU_OMP_THREADS_BIND", "OMP_NUM_THREADS"} & os.environ.keys()
    set_environment(Device.CPU, ON_CPU)
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == ",".join(map(str, sorted(os.sched_getaffinity(0))))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with 1,000 bytes of weights, on a machine that is slow with bfloat16."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    monkeypatch.setattr(vllm_engine, "multiplies_bfloat16", lambda cpuinfo: False)
    return tmp_path


def test_where_bfloat16_is_slow_it_is_float32(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dtype_here(str(model), Device.CPU, ON_CPU) == "float32"
    monkeypatch.setattr(vllm_engine, "multiplies_bfloat16", lambda cpuinfo: True)
    assert dtype_here(str(model), Device.CPU, ON_CPU) == "auto"


@pytest.mark.parametrize(
    "arguments",
    [
        {"dtype": "bfloat16"},
        {"quantization": "awq"},
        {"kv_cache_memory_bytes": 2**60},  # no room for twice the weights beside it
    ],
)
def test_float32_is_not_forced_where_it_does_not_fit(model: Path, arguments: dict[str, Any]) -> None:
    given = ON_CPU | arguments
    assert dtype_here(str(model), Device.CPU, given) == given["dtype"]


def test_a_gpu_has_its_own_dtype(model: Path) -> None:
    assert dtype_here(str(model), Device.GPU, ON_CPU) == "auto"


def test_quantised_weights_keep_their_dtype(model: Path) -> None:
    (model / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    assert dtype_here(str(model), Device.CPU, ON_CPU) == "auto"
