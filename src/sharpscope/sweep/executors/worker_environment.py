"""The environment of a worker process: import path, working directory, cores, threads and devices."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerEnvironment:
    """The import path and the working directory of the process that plans a sweep, for its workers to share.

    With both, a worker finds what the planning process finds: modules beside the study, files by relative paths.
    """

    path: tuple[str, ...]
    folder: str

    @classmethod
    def here(cls) -> WorkerEnvironment:
        """Return those of this process."""
        folder = os.getcwd()
        return cls(tuple(folder if entry == "" else entry for entry in sys.path), folder)


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that fix the number of threads, read by numerical libraries when first imported.

    The hash seed is fixed with them, since the order of a set of texts would otherwise differ between workers.
    """
    names = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
    fixed = {f"{name}_NUM_THREADS": str(threads) for name in names}
    return {**fixed, "VECLIB_MAXIMUM_THREADS": str(threads), "PYTHONHASHSEED": "0"}


def visible_devices(count: int, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the names of `count` visible CUDA devices, each as a worker's ``CUDA_VISIBLE_DEVICES`` names it alone.

    Where that variable is set already (by Slurm, say), its names are kept: they may be numbers or identifiers.

    >>> visible_devices(2, {})
    ('0', '1')
    >>> visible_devices(2, {"CUDA_VISIBLE_DEVICES": "3,GPU-8f2c"})
    ('3', 'GPU-8f2c')
    """
    given = environment.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(number) for number in range(count)]
    return tuple(name.strip() for name in names[:count])


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
