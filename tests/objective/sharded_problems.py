"""Models that are cut over ranks, ways to cut them, and how many bytes a measurement of them holds."""

from __future__ import annotations

import weakref
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint


def fully_sharded(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    children = [child for child in model.children() if any(True for _ in child.parameters())]
    for child in children[:-1]:  # the last one's parameters belong to the root
        fully_shard(child, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def tensor_parallel(model: nn.Module, name: str) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    plans: dict[str, dict[str, Any]] = {
        "perceptron": {"0": ColwiseParallel(), "2": RowwiseParallel()},
        "convolutional": {"5": ColwiseParallel(output_layouts=Replicate())},
        "transformer": {
            **dict.fromkeys(["query", "key", "value", "up"], ColwiseParallel()),
            **dict.fromkeys(["out", "down"], RowwiseParallel()),
        },
    }
    return parallelize_module(model, init_device_mesh("cpu", (dist.get_world_size(),)), plans[name])


class Checkpointed(nn.Module):
    """Its first part is evaluated anew in every backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6)), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(checkpoint(self.first, x, use_reentrant=False)))


class Recurrent(nn.Module):
    """A layer that keeps a second list of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x[:, None])[0][:, -1])


class Attention(nn.Module):
    """A layer of torch that reads a parameter of a submodule without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.MultiheadAttention(5, 1, batch_first=True)
        self.norm = nn.utils.parametrizations.weight_norm(nn.Linear(5, 6))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x[:, None] * torch.arange(1.0, 4.0, dtype=x.dtype)[:, None]
        return self.last(torch.tanh(self.norm(self.first(tokens, tokens, tokens)[0].sum(1))))


class MostBytes(TorchDispatchMode):
    """The most bytes that tensors made under it held at one time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, list | tuple) else [found]:
            if type(tensor) is Tensor:
                self.count(tensor.untyped_storage())
        return found

    def count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        if size and key not in self.seen:
            self.seen.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.forget, key, size)

    def forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


def wide() -> tuple[nn.Module, Tensor, Tensor]:
    """A model whose parameters take far more memory than what a few samples leave in it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *[nn.Sequential(nn.Linear(192, 192), nn.Tanh()) for _ in range(12)], nn.Linear(192, 3)
    )
    return model, torch.randn(6, 192), torch.arange(6) % 3
