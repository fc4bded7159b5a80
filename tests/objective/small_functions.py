"""Functions of two layers, and objectives of them, for tests of what is refused and what is measured right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpscope import Objective

N = 24


def data_of(n: int = N, d: int = 5, classes: int = 3, seed: int = 1) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g)


X, Y = data_of()
ce = F.cross_entropy


class Fn(nn.Module):
    """A function of two layers a (5 to 4) and b (4 to 3)."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def cube(backward: Callable[..., Any]) -> Any:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Tensor) -> Tensor:
            ctx.save_for_backward(a)
            ctx.kept = a.detach().clone()
            return a**3

    Cube.backward = staticmethod(backward)
    return Cube.apply


def once(ctx: Any, g: Tensor) -> Tensor:
    (a,) = ctx.saved_tensors
    return 3 * a * a * g


def in_numpy(ctx: Any, g: Tensor) -> Tensor:
    (a,) = ctx.saved_tensors
    return torch.from_numpy(3 * a.detach().numpy() ** 2 * g.detach().numpy())


def detached(ctx: Any, g: Tensor) -> Tensor:
    return 3 * ctx.kept**2 * g


def plain(m: Any, x: Tensor) -> Tensor:
    out: Tensor = m.b(torch.tanh(m.a(x)))
    return out


def in_two(x: Tensor, y: Tensor, first: int) -> list[tuple[Tensor, Tensor]]:
    return [(x[:first], y[:first]), (x[first:], y[first:])]


ANOTHER = Fn(plain).double()


def pair(
    function: Callable[[Any, Tensor], Any], loss: Any = ce, batches: Any = (X, Y), **options: Any
) -> Objective:
    return Objective(Fn(function).double(), loss, batches, **options)


def batch(loss: Any, batches: Any = None, model: nn.Module | None = None, **options: Any) -> Objective:
    model = Fn(plain).double() if model is None else model
    return Objective.from_batch_loss(model, [(X, Y)] if batches is None else batches, loss, **options)


def activated(activation: Any) -> Callable[[Any, Tensor], Tensor]:
    return lambda m, x: m.b(activation(m.a(x)))


class Detector(nn.Module):
    """Returns losses in training and detections otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(5, 3)

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        if self.training:
            return {"classification": ce(self.a(x), targets)}
        return [{"scores": z} for z in self.a(x)]


def detection(model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    return sum(model(*batch).values()), len(batch[0])
