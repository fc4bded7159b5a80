"""Several processes that measure together, on gloo: each runs a function of a test file on its own.

``run(world, job, ...)`` starts them; what the job returns on each rank comes back as JSON. The ranks are forked from
one process that has imported torch and sharpscope already, which saves some seconds for each.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
PATIENCE = 300.0
"""Seconds after which ranks that still run count as hung."""

_forking = "forkserver" in multiprocessing.get_all_start_methods()
_processes: Any = multiprocessing.get_context("forkserver" if _forking else "spawn")
if _forking:
    # nothing that starts threads: what is forked later has none of them
    _processes.set_forkserver_preload(
        [
            *("pytest", "torch.distributed.fsdp", "torch.distributed.tensor.parallel"),
            *("sharpscope.measures", "sharpscope.curvature", "sharpscope.training"),
        ]
    )


def start(
    world: int,
    job: Callable[..., Any],
    folder: Path,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
) -> list[BaseProcess]:
    """Start a process for each rank; the job is a function of a module in tests/, called with (rank, *arguments)."""
    path = Path(sys.modules[job.__module__].__file__ or "").relative_to(TESTS).with_suffix("")
    name = ".".join(path.parts)
    own = {"OMP_NUM_THREADS": "1", **(environment or {})}
    processes = [
        _processes.Process(target=take_part, args=(name, job.__name__, rank, world, folder, arguments, own))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def finish(processes: list[BaseProcess], folder: Path) -> None:
    """Wait until all ranks have ended well."""
    for process in processes:
        process.join(PATIENCE)
        process.kill()
        process.join()
    said = [path.read_text() for path in sorted(folder.glob("*.said"))]
    assert [process.exitcode for process in processes] == [0] * len(processes), "\n".join(said)


def run(world: int, job: Callable[..., Any], folder: Path, *arguments: Any) -> list[Any]:
    """Return what the job returns on every rank."""
    finish(start(world, job, folder, *arguments), folder)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]


def take_part(
    module: str,
    job: str,
    rank: int,
    world: int,
    folder: Path,
    arguments: tuple[Any, ...],
    environment: Mapping[str, str],
) -> None:
    """Take part in a world as one of its ranks."""
    import torch
    import torch.distributed as dist

    os.environ.update(environment)
    torch.set_num_threads(1)
    said = os.open(folder / f"{rank}.said", os.O_WRONLY | os.O_CREAT, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    found = getattr(importlib.import_module(module), job)(rank, *json.loads(json.dumps(arguments)))
    (folder / f"{rank}.json").write_text(json.dumps(found))
    if isinstance(found, dict) and "lost" in found:  # there is nobody left to take leave of
        os._exit(0)
    if dist.is_initialized():  # a command takes leave by itself
        dist.barrier()
        dist.destroy_process_group()
