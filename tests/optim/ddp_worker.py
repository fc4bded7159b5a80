"""One of two processes training under DistributedDataParallel; writes its weights after two steps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import distributed, nn

from sharpscope import SAM

RHO, LR, MOMENTUM = 0.5, 0.1, 0.9


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def part(step: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(10 * step + rank)
    inputs = torch.randn(8, 4, generator=draws, dtype=torch.float64)
    return inputs + rank, torch.randint(0, 3, (8,), generator=draws)


def train(m: str, style: str, rank: int) -> nn.Module:
    model = nn.parallel.DistributedDataParallel(network())
    optimizer = SAM(model.parameters(), rho=RHO, lr=LR, momentum=MOMENTUM, m=m, model=model)  # type: ignore[arg-type]
    for step in range(2):
        x, y = part(step, rank)

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if style == "closure":
            optimizer.step(closure)
            continue
        if m == "rank":
            with model.no_sync():
                closure()
        else:
            closure()
        optimizer.first_step()
        closure()
        optimizer.second_step()
    return model.module


def main(rank: int, folder: Path) -> None:
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    for m in ("batch", "rank"):
        for style in ("closure", "two steps"):
            torch.save(train(m, style, rank).state_dict(), folder / f"{m}.{style}.{rank}.pt")
    distributed.barrier()  # neither leaves while the other still speaks to it
    distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # torch 2.13's gloo now and then aborts while the interpreter takes its threads down


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
