"""The loss of a chunk that several ranks share, each with its own part of it; without processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sharpscope.objective.sharded_models import FullySharded


class RanksThatSay:
    """Ranks of which every one gives the numbers that are foretold."""

    size = 4

    def __init__(self, *foretold: list[float]) -> None:
        self.foretold = iter(foretold)

    def each(self, numbers: list[float]) -> list[list[float]]:
        return [[number] for number in next(self.foretold)]


class MeanLoss:
    """The mean loss of a part, as if the outputs were how much is added to it."""

    targets = None

    def __init__(self, weight: float, loss: Tensor) -> None:
        self.weight, self.loss = weight, loss

    def __call__(self, outputs: Tensor) -> Tensor:
        return self.loss + outputs


def test_all_ranks_have_the_same_loss_to_the_bit_whatever_their_parts_lost():
    """In float32, where own + (whole - own) is another number on each."""
    counts = [3.0, 5.0, 1.0, 7.0]
    for seed in range(50):
        losses = torch.rand(4, generator=torch.Generator().manual_seed(seed)) * torch.tensor(
            [1.0, 30.0, 1e-3, 1.0]
        )
        parts = [float(torch.tensor(n / 16) * loss) for n, loss in zip(counts, losses, strict=True)]
        values = []
        for n, loss in zip(counts, losses, strict=True):
            ranks: Any = RanksThatSay(counts, parts)
            mean: Any = MeanLoss(n, loss)
            outputs = torch.zeros((), requires_grad=True)
            value = FullySharded(ranks, {}).shared(mean, idle=False)(outputs)
            (slope,) = torch.autograd.grad(value, outputs, create_graph=True)
            assert float(slope) == pytest.approx(n / 16)
            values.append(value.item())
        assert set(values) == {float(torch.tensor(sum(parts)))}
