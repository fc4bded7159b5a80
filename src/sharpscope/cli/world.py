"""A command that ``torchrun`` started on several ranks: they measure together, and the first one speaks for all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed import ProcessGroup

T = TypeVar("T")

Shard = Annotated[
    bool,
    typer.Option(
        "--shard", help="Under torchrun: cut the parameters over the ranks too, not the data alone."
    ),
]


def rank() -> int:
    """Return this process's number among those that torchrun started; 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if size() > 1 else 0


def size() -> int:
    """Return how many processes torchrun started; 1 without torchrun."""
    started = "TORCHELASTIC_RUN_ID" in os.environ and "MASTER_ADDR" in os.environ
    return int(os.environ.get("WORLD_SIZE", "1")) if started else 1


@dataclass(frozen=True)
class World:
    """The ranks of one command, and what each of them holds.

    ``device`` is this rank's own: cuda:N for the Nth rank on its machine. ``sharded`` says that parameters and
    vectors are cut over the ranks too, beside the data.
    """

    group: ProcessGroup
    device: str
    sharded: bool

    def in_turn(self, function: Callable[[], T]) -> T:
        """Return ``function()``, called on the first rank before the others: it may download what they then find."""
        import torch.distributed as dist

        if rank():
            dist.barrier(self.group)
        found = function()
        if not rank():
            dist.barrier(self.group)
        return found

    def own_part(self, batches: Sequence[tuple[Tensor, Tensor]], whole: bool) -> list[tuple[Tensor, Tensor]]:
        """Return this rank's part of the batches: of their samples, or with ``whole`` of the batches themselves."""
        if whole:
            return list(batches[rank() * len(batches) // size() : (rank() + 1) * len(batches) // size()])
        parts = [
            (x[rank() * len(y) // size() : (rank() + 1) * len(y) // size()], y[rank() * len(y) // size() :])
            for x, y in batches
        ]
        return [(x, y[: len(x)]) for x, y in parts if len(x)]

    def shard(self, model: nn.Module) -> nn.Module:
        """Cut a model's parameters over the ranks, a unit for each child that has some; if so asked for."""
        if not self.sharded:
            return model
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        mesh = init_device_mesh(self.device.partition(":")[0], (size(),))
        for child in model.children():
            if any(True for _ in child.parameters()):
                fully_shard(child, mesh=mesh)
        fully_shard(model, mesh=mesh)
        return model


def join(device: str, sharded: bool) -> World | None:
    """Join the ranks that torchrun started; None without torchrun. All but the first stop printing.

    Raises `InputError` for --shard without torchrun, and for a numbered device.
    """
    from sharpscope.errors import InputError

    if size() == 1:
        if sharded:
            raise InputError(
                "--shard cuts the parameters over several processes, this is one; start the command as torchrun "
                "--nproc-per-node 2 -m sharpscope ..."
            )
        return None
    if ":" in device:
        raise InputError(
            f"torchrun gives every rank a device of its own, received --device {device}; use --device cuda"
        )
    import torch
    import torch.distributed as dist

    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(int(device.partition(":")[2]))
    if rank():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # open for good
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    world: Any = dist.group.WORLD
    return World(world, device, sharded)


def leave(status: int) -> None:
    """Take leave of the other ranks at the end of a command, after an error without waiting for them."""
    if size() == 1 or "torch" not in sys.modules:
        return
    import torch.distributed as dist

    if dist.is_initialized():
        if status == 0:
            dist.barrier()
        dist.destroy_process_group()
