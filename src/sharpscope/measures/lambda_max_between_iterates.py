"""The largest λ_max on the way to a declared next iterate: kaur2022's rule for networks with batch normalisation."""

from __future__ import annotations

import math
import time
from copy import copy

import torch

from sharpscope.curvature import between_iterates
from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


def lambda_max_between_iterates(
    obj: Objective,
    step_size: float = 0.05,
    batch_size: int | None = 100,
    points: int = 8,
    tol: float = 1e-3,
    seed: int = 0,
) -> Estimate:
    """Return max over α of λ_max(∇²L((1 − α) θ + α θ′)) at ``points`` evenly spaced α in [0, 1], both ends included.

    θ′ = θ − η ∇L_B(θ) is one further step of SGD: η = ``step_size``, B a batch of ``batch_size`` samples of the
    objective's own data drawn from ``seed`` (None, or more than there are: all of it), its loss taken in the
    objective's own mode. With batch normalisation λ_max at an iterate and between two can differ by orders of
    magnitude (kaur2022, section 5). In units of loss / parameter².

    Raises
    ------
    InputError
        For a step size that is not positive and finite, a batch size below 1 or fewer than 2 points.

    Examples
    --------
    On a quadratic the curvature is the same all along, here 3:

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> round(lambda_max_between_iterates(obj, points=3).value, 6)
    3.0

    """
    if not (math.isfinite(step_size) and step_size > 0):
        raise InputError(
            f"step_size must be positive and finite, received {step_size}; pass the training rate"
        )
    if batch_size is not None and batch_size < 1:
        raise InputError(
            f"batch_size must be at least 1, received {batch_size}; pass the training batch size"
        )
    began, before = time.perf_counter(), copy(obj.spent)
    part, share = obj, 1.0
    if batch_size is not None and batch_size < obj.n_samples:
        order = torch.randperm(int(obj.n_samples), generator=generator("next step", seed))
        part = obj.subset(order[:batch_size])
        share = batch_size / obj.n_samples
    found = between_iterates(obj, obj.flat() - step_size * part.gradient(), points, tol=tol, seed=seed)
    top = int(found.values.argmax())
    cost = {**obj.spent.since(before), "seconds": time.perf_counter() - began}
    if part is not obj:
        cost["gradients"] += share
    return Estimate(
        "lambda_max_between_iterates",
        found.value,
        error=float(found.errors[top]),
        converged=bool(found.converged.all()),
        cost=cost,
        protocol={
            **found.protocol,
            "step_size": step_size,
            "batch_size": batch_size,
            "position": float(found.positions[top]),
        },
        fingerprint=found.fingerprint,
    )
