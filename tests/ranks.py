"""Several processes that measure together, on gloo: each runs a function of a test file on its own.

``run(world, job, ...)`` starts them as this script; what the job returns on each rank comes back as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent


def start(world: int, job: Callable[..., Any], folder: Path, *arguments: Any) -> list[subprocess.Popen[str]]:
    """Start a process for each rank; the job is a function of a module in tests/, called with (rank, *arguments)."""
    path = Path(sys.modules[job.__module__].__file__ or "").relative_to(TESTS).with_suffix("")
    name = ".".join(path.parts)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), *sys.path])
    return [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                name,
                job.__name__,
                str(rank),
                str(world),
                str(folder),
                json.dumps(arguments),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


def run(world: int, job: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Return what the job returns on every rank."""
    processes = start(world, job, folder, *arguments)
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [p.returncode for p in processes] == [0] * world, "\n".join(said)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


def main() -> None:
    """Take part in a world as one of its ranks."""
    module, job, rank, world, folder, arguments = sys.argv[1:]
    import torch.distributed as dist

    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=int(rank), world_size=int(world)
    )
    found = getattr(importlib.import_module(module), job)(int(rank), *json.loads(arguments))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))
    if isinstance(found, dict) and "lost" in found:  # there is nobody left to take leave of
        os._exit(0)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
