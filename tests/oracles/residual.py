"""A small residual network whose function-preserving rescalings are known."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from problems import settle


class Residual(nn.Module):
    """A stream that two branches write to and a pooled head reads: one factor for all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.inner = nn.Conv2d(3, 5, 3, padding=1, bias=False)
        self.inner_norm = nn.BatchNorm2d(5)
        self.outer = nn.Conv2d(5, 3, 1)
        self.head = nn.Linear(3 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        h = self.outer(torch.relu(self.inner_norm(self.inner(x))))
        x = torch.relu(x + h)
        return self.head(torch.flatten(nn.functional.max_pool2d(x, 2), 1))


def images() -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return torch.randn(13, 1, 4, 4, generator=g).double(), torch.randint(0, 3, (13,), generator=g)


def residual() -> nn.Module:
    torch.manual_seed(1)
    model = settle(Residual().double(), images()[0])
    with torch.no_grad():
        model.norm.bias.uniform_(-0.5, 0.5)
        model.inner_norm.weight.uniform_(0.5, 2)
        model.inner_norm.bias.uniform_(-0.5, 0.5)
    return model.eval()
