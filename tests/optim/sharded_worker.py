"""One of two processes training with shards: FSDP2, ZeroRedundancyOptimizer, FSDP1, and DDP's other habits."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer

from sharpscope import ASAM, GSAM, SAM, FriendlySAM, LookSAM, Objective, SharpnessMonitor
from sharpscope.errors import InputError

KINDS: dict[str, Any] = {
    "SAM": SAM,
    "ASAM": ASAM,
    "GSAM": GSAM,
    "FriendlySAM": FriendlySAM,
    "LookSAM": LookSAM,
}
OPTIONS: dict[str, Any] = {"rho": 0.5, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
STEPS, SAVED_AFTER = 4, 2


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()  # 5 rows: uneven shards


def data(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    draws = torch.Generator().manual_seed(step)
    return torch.randn(8, 4, generator=draws, dtype=torch.float64), torch.randint(0, 3, (8,), generator=draws)


def steps(model: nn.Module, optimizer: Any, numbers: range, rank: int | None, style: str) -> None:
    """Train on halves of the data, one for each rank, or on all of it."""
    for number in numbers:
        x, y = data(number)
        if rank is not None:
            x, y = x[rank::2], y[rank::2]

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            return loss

        if style == "closure":
            optimizer.step(closure)
        else:
            closure()
            optimizer.first_step()
            closure()
            optimizer.second_step()


def full(model: nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {n: t.full_tensor() if hasattr(t, "full_tensor") else t.clone() for n, t in state.items()}


def sharded() -> nn.Module:
    model = network()
    fully_shard(model[0])
    fully_shard(model)
    return model


def fsdp2(rank: int, folder: Path) -> None:
    for name, kind in KINDS.items():
        for style in ("closure", "two steps"):
            model = sharded()
            optimizer = kind(model.parameters(), **OPTIONS)
            steps(model, optimizer, range(SAVED_AFTER), rank, style)
            if style == "closure":
                where = str(folder / f"checkpoint.{name}")
                weights, state = get_state_dict(model, optimizer)
                dcp.save({"weights": weights, "state": state}, checkpoint_id=where)
            steps(model, optimizer, range(SAVED_AFTER, STEPS), rank, style)
            torch.save(full(model), folder / f"fsdp2.{name}.{style}.{rank}.pt")
            if style == "closure":
                again = sharded()
                with torch.no_grad():
                    for p in again.parameters():
                        p.mul_(3)  # all must come from the file
                other = kind(again.parameters(), **OPTIONS)
                weights, state = get_state_dict(again, other)
                dcp.load({"weights": weights, "state": state}, checkpoint_id=where)
                set_state_dict(again, other, model_state_dict=weights, optim_state_dict=state)
                steps(again, other, range(SAVED_AFTER, STEPS), rank, style)
                torch.save(full(again), folder / f"resumed.{name}.{rank}.pt")


def watching(model: nn.Module, optimizer: Any) -> Callable[[], None]:
    """A measurement by the first rank alone, while the others train on."""
    x, y = data(99)
    objective = Objective(model, nn.functional.cross_entropy, (x.to(next(model.parameters()).dtype), y))
    monitor = SharpnessMonitor(objective, every=1, optimizer=optimizer, samples=4, max_products=6)

    def look() -> None:
        assert monitor.measure()["note"] == ""

    return look


def refused(build: Any) -> str:
    try:
        build()
    except InputError as error:
        return str(error)
    return ""


def others(rank: int, folder: Path) -> None:
    said = {}
    model = nn.parallel.DistributedDataParallel(network(), gradient_as_bucket_view=True)
    said["zero outside"] = refused(lambda: ZeroRedundancyOptimizer(model.parameters(), SAM, lr=0.1))
    for style, watch in product(("closure", "two steps"), (False, True)):
        model = nn.parallel.DistributedDataParallel(network(), gradient_as_bucket_view=True)
        options = {k: v for k, v in OPTIONS.items() if k != "rho"}
        optimizer = SAM(
            model.parameters(),
            ZeroRedundancyOptimizer,
            rho=OPTIONS["rho"],
            optimizer_class=torch.optim.SGD,
            **options,
        )
        look = watching(model, optimizer) if watch and rank == 0 else lambda: None
        look()
        steps(model, optimizer, range(STEPS), rank, style)
        look()
        torch.save(full(model.module), folder / f"zero.{style}.{watch}.{rank}.pt")
    for original in (False, True):
        wrapped = FullyShardedDataParallel(network(), use_orig_params=original, device_id=torch.device("cpu"))
        said[f"fsdp1 {original}"] = refused(lambda wrapped=wrapped: SAM(wrapped.parameters(), lr=0.1))
    model = nn.parallel.DistributedDataParallel(network())
    optimizer = SAM(model.parameters(), lr=0.1, rho=0.5)
    x, y = (part[rank::2] for part in data(0))
    for early in (False, True):  # averaging over the ranks is no unscaling
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        if early:
            scaler.unscale_(optimizer)
        optimizer.first_step()
        scaler.scale(nn.functional.cross_entropy(model(x), y)).backward()
        if not early:
            scaler.unscale_(optimizer)
        said[f"unscaled early {early}"] = refused(lambda scaler=scaler: scaler.step(optimizer))
        optimizer.zero_grad()
    model = nn.parallel.DistributedDataParallel(network(), gradient_as_bucket_view=True)
    optimizer = SAM(model.parameters(), lr=0.1, rho=0.5)
    with model.no_sync():
        nn.functional.cross_entropy(model(x[:2]), y[:2]).backward()
    adds = lambda: nn.functional.cross_entropy(model(x[2:]), y[2:]).backward()  # noqa: E731
    said["accumulation"] = refused(lambda: optimizer.step(adds))
    torch.save(said, folder / f"said.{rank}.pt")


CELLS = ("plain", "bfloat16", "float16", "accumulated", "float16, accumulated")


def cells(rank: int, folder: Path) -> None:
    """DistributedDataParallel with autocast, a scaler and accumulation, in two steps."""
    for cell, watch in product(CELLS, (False, True)):
        model = nn.parallel.DistributedDataParallel(network().float())
        optimizer = SAM(model.parameters(), rho=0.5, lr=0.1)
        scaler = torch.amp.GradScaler(
            "cpu", init_scale=1024.0, enabled="float16" in cell and "b" not in cell[0]
        )
        low = torch.bfloat16 if "bfloat16" in cell else torch.float16
        x, y = (part[rank::2] for part in data(0))
        parts = 2 if "accumulated" in cell else 1
        look = watching(model, optimizer) if watch and rank == 0 else lambda: None
        look()
        for take in (optimizer.first_step, lambda scaler=scaler, optimizer=optimizer: scaler.step(optimizer)):
            for part in range(parts):
                last = part == parts - 1
                with nullcontext() if last else model.no_sync():
                    with torch.autocast("cpu", low, enabled="float16" in cell):
                        loss = (
                            nn.functional.cross_entropy(model(x.float()[part::parts]), y[part::parts]) / parts
                        )
                    scaler.scale(loss).backward()
            take()
        look()
        torch.save(full(model.module), folder / f"ddp.{cell}.{watch}.{rank}.pt")


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    rendezvous = f"file://{folder / 'rendezvous'}"
    distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    cells(rank, folder)
    others(rank, folder)
    fsdp2(rank, folder)
    distributed.barrier()  # neither leaves while the other still speaks to it
    distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # torch 2.13's gloo now and then aborts while the interpreter takes its threads down


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
