"""Losses and gradients at many points: one after the other, or several in one batched pass where that is faster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from sharpscope.autograd.functional import substituted
from sharpscope.objective.objective import Objective

GROUP = 32
"""Most points evaluated in one pass."""

WEIGHTS = 6e6
"""Most weights of a pass with gradients, over all its points: beyond, it outgrows the caches and wins nothing.

Milliseconds per gradient on batches of 64, alone / 5 / 10 / 25 / 50 together: 10-64-64-1 1.84 / 0.29 / 0.16 / 0.09 /
0.15; 784-512-256-128-10 9.0 / 5.0 / 4.6 / 7.7 / 8.9; LeNet-5 22 / 36 / 37 / 38 / 61 (one core of a busy machine).
"""

SMALL = 4e7
"""Parameters times samples of a pass, up to which a batched pass wins.

Measured on one CPU core, milliseconds per point alone / 32 or 8 together: a 10-64-64-1 network on 64 samples
0.60 / 0.06, on 4096 samples 2.1 / 1.2; 784-512-256-128-10 on 64 samples 1.6 / 1.1, on 1024 samples 13.4 / 15.0;
LeNet-5, whose convolutions do not batch, 6.4 / 9.3. The rule looks at shapes only, never at the clock: the same
run takes the same path everywhere.
"""


_NOT_BATCHED = (RuntimeError, ValueError, TypeError, NotImplementedError)
"""What a batched pass raises on control flow on values, or on writes in place."""


def losses_at(obj: Objective, points: Iterable[Tensor]) -> Iterator[float]:
    """Yield L at each flat vector (size,), in order; infinite or NaN where the network overflows there.

    A group of points shares one pass over the data when the network is small and free of convolutions and
    recurrences; the values then differ from single evaluations in rounding only.
    """
    if not fit_together(obj):
        for point in points:
            yield obj.loss(point)
        return
    points = iter(points)
    while group := list(islice(points, GROUP)):
        values = _together(obj, torch.stack(group)) if len(group) > 1 else None
        yield from values if values is not None else (obj.loss(point) for point in group)


def fit_together(obj: Objective) -> bool:
    """Whether points of this objective are evaluated in groups: see `SMALL`."""
    if obj.mode != "eval" or obj._loss is None:
        return False
    if any(
        isinstance(m, nn.modules.conv._ConvNd | nn.RNNBase | nn.MultiheadAttention)
        for m in obj.model.modules()
    ):
        return False
    pass_size = min(obj.n_samples, obj.chunk_size or obj.n_samples)
    return obj.size * pass_size <= SMALL


def group_size(obj: Objective) -> int:
    """How many gradients of this objective are taken in one pass."""
    return max(1, min(GROUP, int(WEIGHTS / obj.size)))


def gradients_together(parts: list[Objective], points: Tensor) -> list[tuple[float, Tensor]] | None:
    """Return (loss, gradient (size,)) of the i-th objective at the i-th of (k, size) points, in one pass.

    The objectives differ in their data alone, a single batch of one size. A non-finite loss or gradient is reported
    as an infinite loss. None where the model does not allow a batched pass.
    """
    one = parts[0]
    loss = one._loss
    pairs = [one._placed(part.batches.tensors()) for part in parts]
    if loss is None or len({(x.shape, y.shape) for x, y in pairs}) > 1:
        return None
    inputs, targets = (torch.stack(tensors) for tensors in zip(*pairs, strict=True))

    def mean(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
        with substituted(one.model, one._substitutes(one.layout.split(theta))):
            return loss(one.model(x), y)

    with one._measuring():
        try:
            gradients, values = torch.vmap(torch.func.grad_and_value(mean))(
                points.to(one.device, one.dtype), inputs, targets
            )
        except _NOT_BATCHED:
            return None
    for part in parts:
        part.spent.gradients += 1
    fine = torch.isfinite(gradients).all(1) & torch.isfinite(values)
    return [
        (float(value) if ok else math.inf, gradient.detach())
        for value, gradient, ok in zip(values, gradients, fine.tolist(), strict=True)
    ]


def _together(obj: Objective, points: Tensor) -> list[float] | None:
    """Losses at (k, size) points; None where the model does not allow a batched pass."""

    def one(theta: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=theta.device)
        weight = 0.0
        for value, n in obj._chunk_losses(obj.layout.split(theta)):
            total = total + n * value.double()
            weight += n
        return total / weight

    with obj._measuring(), torch.no_grad():
        try:
            values: Tensor = torch.vmap(one)(points.to(obj.device, obj.dtype))
        except _NOT_BATCHED:
            return None
    obj.spent.losses += len(points)
    return [float(value) for value in values]
