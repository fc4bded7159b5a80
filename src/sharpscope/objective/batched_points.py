"""Losses and gradients at many points in one pass, by ``torch.vmap``.

A model that branches on values or writes in place cannot be evaluated this way; the error is torch's own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpscope.autograd.module_state import SavedState
from sharpscope.objective.evaluator import Evaluator


def losses_at(evaluator: Evaluator, points: Tensor) -> Tensor:
    """Return L at k points (k, size) from one batched pass, in float64 (k,)."""

    def batched(saved: SavedState) -> Tensor:
        def one(theta: Tensor) -> Tensor:
            total = torch.zeros((), dtype=torch.float64, device=theta.device)
            weight = 0.0
            leaves = evaluator.layout.split(theta)
            for index, chunk, weights in evaluator.chunks():
                evaluator.substitute(saved, leaves, index)
                value, n = evaluator.mean_loss(evaluator.placed(chunk), weights)
                total = total + n * value.double()
                weight += n
            return total / weight

        values: Tensor = torch.vmap(one)(points.to(evaluator.device, evaluator.dtype))
        return values

    values = evaluator.measuring(batched, grad=False)
    evaluator.cost.losses += len(points)
    return values


def gradients_at(parts: Sequence[Evaluator], points: Tensor) -> tuple[Tensor, Tensor]:
    """Return the losses (k,) and gradients (k, size) of k evaluators at k points (k, size) from one batched pass.

    The evaluators differ in their data alone, a single batch of one size. A failing model raises.
    """
    one = parts[0]
    loss = one.loss
    if loss is None:
        raise ValueError("a batched pass needs a loss of outputs and targets")
    pairs = [one.placed(part.tensors()) for part in parts]
    inputs, targets = (torch.stack(tensors) for tensors in zip(*pairs, strict=True))

    def batched(saved: SavedState) -> tuple[Tensor, Tensor]:
        def mean(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            one.substitute(saved, one.layout.split(theta))
            return loss(one.model(x), y)

        found: tuple[Tensor, Tensor] = torch.vmap(torch.func.grad_and_value(mean))(
            points.to(one.device, one.dtype), inputs, targets
        )
        return found

    slopes, values = one.measuring(batched, grad=True)
    for part in parts:
        part.cost.gradients += 1
    return values, slopes.detach()
