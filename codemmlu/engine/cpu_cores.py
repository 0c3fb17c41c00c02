"""CPU cores: the cores that an engine on the CPU may use on this machine.

The kernel lists all cores of the machine to a container, also where a quota lets it use the time of only some: threads
that are bound to more cores than that wait for each other, stopped by the kernel.
"""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(counted: int | None = None, cgroups: Path = _CGROUPS) -> list[int]:
    """Return the numbers of the cores that threads are bound to.

    Args:
        counted: The cores that Ray counts on this machine, and so plans with; None: not known.
        cgroups: Where the kernel shows its control groups.

    Returns:
        At least one core; no more than Ray counts, and than the quota of the container allows.
    """
    cores = sorted(os.sched_getaffinity(0))
    limits = [limit for limit in (counted, quota(cgroups)) if limit]
    return cores[: min([len(cores), *limits])]


def quota(cgroups: Path = _CGROUPS) -> int | None:
    """Return how many cores the time of this process's control group is worth, rounded up; None without a quota."""
    try:
        own = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("::")[2].strip().lstrip("/")
    except OSError:
        own = ""
    limits = []
    for folder in {cgroups, cgroups / own}:
        limits += _limit(folder / "cpu.max") + _limit(folder / "cpu" / "cpu.cfs_quota_us")
    return min(limits, default=None)


def _limit(file: Path) -> list[int]:
    """Return the limit that a file sets, as `QUOTA PERIOD` or, in version 1, in two files; empty without one."""
    try:
        numbers = file.read_text(encoding="utf-8").split()
        if len(numbers) == 1:
            numbers.append((file.parent / "cpu.cfs_period_us").read_text(encoding="utf-8").strip())
        time, period = int(numbers[0]), int(numbers[1])
    except (OSError, ValueError, IndexError):  # `max`: there is no quota.
        return []
    return [max(1, math.ceil(time / period))] if time > 0 and period > 0 else []
