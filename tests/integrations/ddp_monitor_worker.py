"""One of two processes that train with and without a monitor on the first rank."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

from sharpscope import SAM, Objective, SharpnessMonitor
from sharpscope.errors import InputError

KINDS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "sam": lambda p: SAM(p, lr=0.1),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(10, 4, generator=draws), torch.randint(0, 3, (10,), generator=draws)


def train(kind: str, rank: int, watch: bool, folder: Path) -> dict[str, torch.Tensor]:
    model = nn.parallel.DistributedDataParallel(network())
    optimizer = KINDS[kind](model.parameters())
    monitor = None
    if watch and rank == 0:
        monitor = SharpnessMonitor(
            Objective(model, nn.functional.cross_entropy, batch(99)),
            every=1,
            between=2,
            optimizer=optimizer,
            path=folder / f"{kind}.parquet",
        )
    for step in range(3):
        x, y = batch(10 * step + rank)

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)
        if monitor is not None:
            monitor.after_step()
    if monitor is not None:
        monitor.close()
    return model.module.state_dict()


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    for kind in KINDS:
        for watch in (False, True):
            torch.save(train(kind, rank, watch, folder), folder / f"{kind}.{watch}.{rank}.pt")
    model = network()
    fully_shard(model)
    try:
        batch_loss = lambda m, b: (nn.functional.cross_entropy(m(b[0]), b[1]), 10)  # noqa: E731
        SharpnessMonitor(Objective.from_batch_loss(model, [batch(99)], batch_loss), every=1)
    except InputError as error:
        (folder / f"sharded.{rank}.txt").write_text(str(error), encoding="utf-8")
    distributed.barrier()  # neither leaves while the other still speaks to it
    distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # torch 2.13's gloo now and then aborts while the interpreter takes its threads down


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
