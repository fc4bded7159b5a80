"""Quadratic losses with a given Hessian and gradient, as objectives."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sharpscope import Objective


class Quadratic(nn.Module):
    def __init__(self, hessian: Tensor, gradient: Tensor, centre: Tensor) -> None:
        super().__init__()
        self.theta = nn.Parameter(centre.clone())
        self.register_buffer("centre", centre)
        self.register_buffer("hessian", hessian)
        self.register_buffer("slope", gradient)

    def forward(self) -> Tensor:
        d = self.theta - self.centre
        return self.slope @ d + 0.5 * d @ self.hessian @ d


def quadratic(hessian: Tensor, gradient: Tensor, centre: Tensor) -> Objective:
    model = Quadratic(hessian, gradient, centre)
    return Objective.from_batch_loss(model, [torch.zeros(3)], lambda m, batch: (m(), 3))


def draw(kind: str, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))[0]
    values = torch.randn(n, generator=g, dtype=torch.float64) ** 3
    if kind == "convex":
        values = values.abs()
    elif kind == "concave":
        values = -values.abs().clamp(max=3) - 0.3
    elif kind == "ill-conditioned concave":
        values = -(10 ** (-4 * torch.rand(n, generator=g, dtype=torch.float64)))
    elif kind == "close":
        values = torch.linspace(0, 1, n, dtype=torch.float64) ** 0.2
    centre = torch.randn(n, generator=g, dtype=torch.float64)
    centre[1] = 0.0
    return (basis * values) @ basis.T, torch.randn(n, generator=g, dtype=torch.float64), centre
