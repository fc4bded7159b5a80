"""How many processor cores this process may really use."""

from __future__ import annotations

import os
from pathlib import Path


def usable_cores() -> int:
    """Return the number of cores this process may use, at least 1.

    The least of what the machine has, what the process is bound to (``taskset``, Slurm) and what its control
    group is allowed (containers, systemd); a quota of part of a core is rounded down.
    """
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        bound = os.process_cpu_count()
    elif hasattr(os, "sched_getaffinity"):
        bound = len(os.sched_getaffinity(0))
    else:
        bound = os.cpu_count()
    quota = cgroup_quota()
    return max(1, bound or 1) if quota is None else max(1, min(bound or 1, int(quota)))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the cores the Linux control group allows, None without a limit.

    Version 2 keeps ``quota period`` in ``cpu.max`` of every group from the process's own up to the root, and the
    smallest binds; version 1 keeps the two in files of their own.
    """
    try:
        version_2 = next((line[3:] for line in own.read_text().splitlines() if line.startswith("0::")), "/")
    except OSError:
        return None
    group = root / version_2.strip().lstrip("/")
    groups = [folder for folder in (group, *group.parents) if folder.is_relative_to(root)]
    quotas = [_ratio(_read(folder / "cpu.max").split()) for folder in groups]
    version_1 = [root / "cpu", root / "cpu,cpuacct"]
    quotas += [_ratio([_read(f / "cpu.cfs_quota_us"), _read(f / "cpu.cfs_period_us")]) for f in version_1]
    return min((quota for quota in quotas if quota is not None), default=None)


def _ratio(words: list[str]) -> float | None:
    try:
        quota, period = (int(word) for word in words)
    except ValueError:  # "max", or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
