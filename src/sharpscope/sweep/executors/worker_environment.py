"""What a worker process finds around it: import path, working directory, threads and devices."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Surroundings:
    """The import path and the working directory of the process that plans a sweep, for its workers to share.

    With both, a worker finds what the planning process finds: modules beside the study, files by relative paths.
    """

    path: tuple[str, ...]
    folder: str

    @classmethod
    def here(cls) -> Surroundings:
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
