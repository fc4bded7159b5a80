"""Losses and gradients at many points, and ascents on many batches: one by one, or batched where that is faster.

A batched pass evaluates several parameter vectors at once by ``torch.vmap``. It pays for small networks without
convolutions only; the values then differ from single evaluations by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from sharpscope.errors import NonFiniteError
from sharpscope.measures.perturbation.ascent import AscentRun
from sharpscope.measures.perturbation.lbfgs import Request, Response
from sharpscope.objective import batched_points
from sharpscope.objective.objective import Objective
from sharpscope.objective.preconditioned import PreconditionedEvaluator

MOST_POINTS = 32
"""Largest number of points evaluated in one pass."""

MOST_WEIGHTS = 6e6
"""Largest number of weights, over all its points, of a pass with gradients: a larger pass does not fit the caches.

Milliseconds per gradient on batches of 64, for 1 / 5 / 10 / 25 / 50 points in a pass, on one core of a busy machine:
10-64-64-1 1.84 / 0.29 / 0.16 / 0.09 / 0.15; 784-512-256-128-10 9.0 / 5.0 / 4.6 / 7.7 / 8.9; LeNet-5 22 / 36 / 37 / 38
/ 61.
"""

MOST_WORK = 4e7
"""Parameters times samples of a pass, up to which a batched pass is faster.

Measured on one CPU core, milliseconds per point for 1 and for 32 or 8 points in a pass: a 10-64-64-1 network on 64
samples 0.60 / 0.06, on 4096 samples 2.1 / 1.2; 784-512-256-128-10 on 64 samples 1.6 / 1.1, on 1024 samples 13.4 /
15.0; LeNet-5, whose convolutions do not batch, 6.4 / 9.3. The rule depends on shapes only and never on measured
times: the same run uses the same path on every machine.
"""

_NOT_BATCHED = (RuntimeError, ValueError, TypeError, NotImplementedError)
"""What ``torch.vmap`` raises where a model branches on values or writes in place."""


def can_batch(obj: Objective) -> bool:
    """Return whether points of this objective are evaluated in batched passes: see `MOST_WORK`."""
    if (
        obj.evaluator.distribution is not None
        or obj.mode != "eval"
        or obj.evaluator.loss is None
        or isinstance(obj.evaluator, PreconditionedEvaluator)
    ):
        return False
    if any(
        isinstance(m, nn.modules.conv._ConvNd | nn.RNNBase | nn.MultiheadAttention)
        for m in obj.model.modules()
    ):
        return False
    pass_size = min(obj.n_samples, obj.evaluator.chunk_size or obj.n_samples)
    return obj.size * pass_size <= MOST_WORK


def losses_at(obj: Objective, points: Iterable[Tensor]) -> Iterator[float]:
    """Yield L at each flat vector (size,), in order; infinite or NaN where the network overflows there."""
    if not can_batch(obj):
        for point in points:
            yield obj.loss(point)
        return
    points = iter(points)
    while group := list(islice(points, MOST_POINTS)):
        values = _batched_losses(obj, torch.stack(group)) if len(group) > 1 else None
        if values is None:
            yield from (obj.loss(point) for point in group)
            continue
        yield from values
        for _ in values:
            obj.evaluator.chunk_done(1, of=1)


def run_ascents(
    ascents: Iterable[tuple[Objective, AscentRun]], centre: Tensor
) -> Iterator[tuple[float, float]]:
    """Yield (loss at the start, highest loss) of each ascent on its own objective, in order.

    ``centre`` (size,) is what perturbations are added to. Where `can_batch` says so, the ascents' requests are
    evaluated in batched passes, all ascents of a group at the same step.
    """
    ascents = iter(ascents)
    for first in ascents:
        obj = first[0]
        size = max(1, min(MOST_POINTS, int(MOST_WEIGHTS / obj.size))) if can_batch(obj) else 1
        yield from _run_group([first, *islice(ascents, size - 1)], centre)


def _run_group(ascents: list[tuple[Objective, AscentRun]], centre: Tensor) -> list[tuple[float, float]]:
    results: dict[int, tuple[float, float]] = {}
    requests = {number: next(run) for number, (_, run) in enumerate(ascents)}
    while requests:
        numbers = list(requests)
        responses = _evaluate([ascents[n][0] for n in numbers], list(requests.values()), centre)
        requests = {}
        for number, response in zip(numbers, responses, strict=True):
            try:
                requests[number] = ascents[number][1].send(response)
            except StopIteration as end:
                results[number] = end.value
    return [results[number] for number in range(len(ascents))]


def _evaluate(parts: list[Objective], requests: list[Request], centre: Tensor) -> list[Response]:
    if len(parts) > 1:
        responses = _batched_gradients(parts, torch.stack([centre + delta for delta, _ in requests]))
        if responses is not None:
            for part in parts:
                part.evaluator.chunk_done(1, of=1)
            return responses
    return [
        _evaluate_one(part, delta, with_gradient, centre)
        for part, (delta, with_gradient) in zip(parts, requests, strict=True)
    ]


def _evaluate_one(part: Objective, delta: Tensor, with_gradient: bool, centre: Tensor) -> Response:
    if not with_gradient:
        return part.loss(centre + delta), torch.zeros_like(delta)
    try:
        return part.loss_and_gradient(centre + delta)
    except NonFiniteError:
        return math.inf, torch.zeros_like(delta)


def _batched_losses(obj: Objective, points: Tensor) -> list[float] | None:
    """Return the losses at (k, size) points; None where the model does not allow a batched pass."""
    try:
        return [float(value) for value in batched_points.losses_at(obj.evaluator, points)]
    except _NOT_BATCHED:
        return None


def _batched_gradients(parts: list[Objective], points: Tensor) -> list[Response] | None:
    """Return (loss, gradient (size,)) of the i-th objective at the i-th of (k, size) points, in one pass.

    The objectives differ in their data alone, a single batch of one size. A non-finite loss or gradient is reported
    as an infinite loss. None where the model does not allow a batched pass.
    """
    evaluators = [part.evaluator for part in parts]
    if len({tuple(tensor.shape for tensor in one.tensors()) for one in evaluators}) > 1:
        return None
    try:
        values, gradients = batched_points.gradients_at(evaluators, points)
    except _NOT_BATCHED:
        return None
    finite = torch.isfinite(gradients).all(1) & torch.isfinite(values)
    return [
        (float(value) if ok else math.inf, gradient)
        for value, gradient, ok in zip(values, gradients, finite.tolist(), strict=True)
    ]
