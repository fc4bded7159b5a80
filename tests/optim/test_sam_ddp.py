"""Two gloo processes: one ε for the batch of all ranks, or one for each rank's, as documented."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed, nn

from optim import ddp_worker
from optim.ddp_worker import LR, MOMENTUM, RHO, network, part

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ddp")
    command = [sys.executable, ddp_worker.__file__]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [subprocess.Popen([*command, str(rank), str(folder)], env=environment) for rank in (0, 1)]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return folder


def gradient(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """The mean over equal batches."""
    loss = sum(nn.functional.cross_entropy(model(x), y) for x, y in batches) / len(batches)
    return list(torch.autograd.grad(loss, list(model.parameters())))


def at_its_worst(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> list[torch.Tensor]:
    """The gradient at θ + ε, both over these batches; the model stays at θ."""
    g = gradient(model, batches)
    norm = torch.cat([part.flatten() for part in g]).norm()
    moved = network()
    moved.load_state_dict(model.state_dict())
    with torch.no_grad():
        for p, direction in zip(moved.parameters(), g, strict=True):
            p += RHO * direction / norm
    return gradient(moved, batches)


def by_hand(m: str) -> nn.Module:
    model = network()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for step in range(2):
        ranks = [part(step, rank) for rank in (0, 1)]
        if m == "batch":
            descent = at_its_worst(model, ranks)
        else:
            each = [at_its_worst(model, [one]) for one in ranks]
            descent = [(a + b) / 2 for a, b in zip(*each, strict=True)]
        with torch.no_grad():
            for p, v, d in zip(model.parameters(), velocity, descent, strict=True):
                v.mul_(MOMENTUM).add_(d)
                p -= LR * v
    return model


@pytest.mark.parametrize("style", ["closure", "two steps"])
@pytest.mark.parametrize("m", ["batch", "rank"])
def test_two_processes_take_the_documented_steps(m: str, style: str, folder: Path) -> None:
    expected = by_hand(m).state_dict()
    other = by_hand("rank" if m == "batch" else "batch").state_dict()
    first, second = (torch.load(folder / f"{m}.{style}.{rank}.pt") for rank in (0, 1))
    for name, value in expected.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-12)
        assert (value - other[name]).abs().max() > 1e-4  # the two choices differ
