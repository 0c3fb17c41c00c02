"""The cores that an engine is bound to: what the container and Ray allow, and not all that the machine has."""

import os
from pathlib import Path

import pytest

from codemmlu.engine.cpu_cores import quota, usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000\n", 2), ("150000 100000\n", 2), ("1000 100000", 1), ("max 100000", None), ("", None)],
)
def test_a_containers_quota_is_seen(text: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert quota(tmp_path) == cores
    assert usable_cores(None, tmp_path) == list(range(cores or 8))


def test_a_quota_of_version_1_is_seen(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for quota_us, cores in ((300000, 3), (-1, None)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota_us}\n")
        assert quota(tmp_path) == cores


@pytest.mark.parametrize(("counted", "cores"), [(None, 8), (3, 3), (64, 8)])
def test_no_more_cores_than_ray_counts_are_bound(counted: int | None, cores: int, tmp_path: Path) -> None:
    assert len(usable_cores(counted, tmp_path)) == cores
