"""The randomness and the arithmetic of a run: a function of its identifier, the epoch and the step.

Nothing random is carried from step to step, so there is no generator state to save or to lose: a run that
resumes in the middle of an epoch draws what it would have drawn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sharpscope.seeding import generator, seed_of


def epoch_order(run_id: str, epoch: int, n: int, device: torch.device) -> torch.Tensor:
    """Return the order (n,) in which an epoch visits the training samples."""
    return torch.randperm(n, generator=generator("order", run_id, epoch)).to(device)


def step_seed(run_id: str, epoch: int, step: int) -> int:
    """Return the seed of what one step draws."""
    return seed_of("step", run_id, epoch, step)


def seed_step(run_id: str, epoch: int, step: int, device: torch.device) -> None:
    """Seed the generators that dropout draws from, for one step. Only inside `reproducible`."""
    seed = step_seed(run_id, epoch, step)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Train inside: the same bits every time, and torch's global generators and settings left as found.

    Operations are asked to be deterministic, with a warning from torch where one cannot be.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    debugging: Any = torch.utils.deterministic
    fill = debugging.fill_uninitialized_memory
    indices = [device.index] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=indices):
        try:
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.benchmark = False  # it chooses algorithms by timing them
            debugging.fill_uninitialized_memory = False  # a debugging aid that costs a pass
            yield
        finally:
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            debugging.fill_uninitialized_memory = fill
