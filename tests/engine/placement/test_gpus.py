"""Hardware: what `--gpus` and drivers call GPUs, read into values."""

from pathlib import Path

import pytest

from codemmlu.engine.placement import gpus
from codemmlu.engine.placement.gpus import GPUS, Node, Resources, kind_of, multiplies_bfloat16, simulated
from codemmlu.errors import UserError


@pytest.mark.parametrize(
    ("text", "nodes", "shown"),
    [
        ("2xT4", (Node(2, "T4"),), "2 x T4"),
        ("2xt4", (Node(2, "T4"),), "2 x T4"),
        ("8xH100-80GB", (Node(8, "H100"),), "8 x H100"),
        ("4x4xL4", (Node(4, "L4"),) * 4, "4 nodes of 4 x L4"),
        ("1xT4+2x8xA100-80G", (Node(1, "T4"), Node(8, "A100-80G"), Node(8, "A100-80G")), None),
    ],
)
def test_simulated_hardware(text: str, nodes: tuple[Node, ...], shown: str | None) -> None:
    found = simulated(text)
    assert found.nodes == nodes
    assert str(found) == (shown or "1 x T4 + 2 nodes of 8 x A100-80G")


@pytest.mark.parametrize(
    "text", ["", "T4", "x", "0xT4", "0x2xT4", "-1xT4", "2xT4 ", "twoxT4", "2xT4;ls", "2x", "2xT4+"]
)
def test_hardware_that_cannot_be_read_is_told_how(text: str) -> None:
    with pytest.raises(UserError, match="write how many of which kind: 2xT4"):
        simulated(text)


def test_a_kind_that_nobody_knows_is_told_which_there_are() -> None:
    with pytest.raises(UserError, match=r"nothing is known of a GPU 'X9000'; kinds: T4, V100, L4"):
        simulated("2xX9000")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((kind, kind) for kind in GPUS),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA L4", "L4"),
        ("NVIDIA A10G", "A10G"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("NVIDIA A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA A100 80GB PCIe", "A100-80G"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA GeForce RTX 4090", "RTX4090"),
        ("NVIDIA L400", None),
        ("", None),
    ],
)
def test_drivers_and_people_name_the_same_kinds(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


def test_what_a_cluster_has_is_said_in_words() -> None:
    assert str(Resources(cpus=2)) == "2 CPU cores"
    assert str(Resources((Node(2), Node(1)))) == "2 x GPU + 1 x GPU"
    assert str(Resources((Node(2, "L4"),), elastic=True)) == "up to 2 x L4"
    assert Resources((Node(2, "T4"), Node(3, "L4"))).gpus == 5


@pytest.mark.parametrize(
    ("cpuinfo", "good"),
    [
        ("processor: 0\nflags\t\t: fpu sse2 avx2 fma\n", False),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("Features\t: fp asimd\n", False),
        ("nothing of the kind", True),
    ],
)
def test_whether_a_processor_is_good_at_bfloat16(cpuinfo: str, good: bool) -> None:
    assert multiplies_bfloat16(cpuinfo) == good


def test_gpus_without_the_drivers_files_are_named_by_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under WSL2 the driver is that of Windows."""
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "none")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert gpus.kinds_here() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090'\necho 'Tesla T4'\n")
    tool.chmod(0o755)
    assert gpus.kinds_here() == ["RTX4090", "T4"]
    tool.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpus.kinds_here() == []
