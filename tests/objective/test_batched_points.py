"""Many points in one pass give what single evaluations give."""

from __future__ import annotations

import pytest
import torch

from problems import PROBLEMS, Problem
from sharpscope.objective.batched_points import gradients_at, losses_at

BATCHED = [
    p
    for p in PROBLEMS
    if p.mode == "eval" and not p.batch_loss and p.name not in ("recurrent", "convolution")
]


@pytest.mark.parametrize("problem", BATCHED, ids=lambda p: p.name)
def test_losses_of_several_chunks_at_several_points(problem: Problem) -> None:
    obj = problem.objective()
    steps = torch.randn(3, obj.size, dtype=obj.dtype)
    points = obj.flat() + 0.3 * steps
    expected = [obj.loss(point) for point in points]
    before = obj.cost.losses
    assert losses_at(obj.evaluator, points).tolist() == pytest.approx(expected, rel=1e-10)
    assert obj.cost.losses == before + 3


def test_gradients_of_several_parts_each_at_its_own_point() -> None:
    obj = PROBLEMS[2].objective()
    parts = [obj.subset(torch.tensor(indices)) for indices in ([0, 3, 5], [1, 2, 9], [18, 4, 7])]
    points = obj.flat() + 0.3 * torch.randn(3, obj.size, dtype=torch.float64)
    values, gradients = gradients_at([part.evaluator for part in parts], points)
    for part, point, value, gradient in zip(parts, points, values, gradients, strict=True):
        loss, slope = part.loss_and_gradient(point)
        assert float(value) == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(gradient, slope)
        assert part.cost.gradients == 2
    assert not gradients.requires_grad
