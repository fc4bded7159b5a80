"""ε-sharpness: the largest relative rise of the loss in a box around the weights, in all or in random directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpscope.errors import NonFiniteError, require_at_least, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.perturbation.ascent import Ascent, AscentRun
from sharpscope.measures.perturbation.ball import Ball
from sharpscope.measures.perturbation.batched import run_ascents
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


@register(
    "epsilon_sharpness",
    title="ε-sharpness",
    symbol="max (L(θ+δ) − L)/(1 + L) · 100",
    definition="Largest rise of the loss for |δ_i| ≤ ε(|θ_i| + 1), relative to one plus the loss, in per cent.",
    source="Keskar et al. 2017, metric 2.1",
    unit="%",
    cost="21 gradients",
)
def epsilon_sharpness(
    obj: Objective, epsilon: float = 1e-3, steps: int = 20, subspace: int | None = None, seed: int = 0
) -> Estimate:
    """Return 100 · (max_{δ ∈ C} L(θ + δ) − L(θ)) / (1 + L(θ)).

    C = {δ : |δ_i| ≤ ε (|θ_i| + 1)}, or with ``subspace`` p the δ = A z of p random directions A (size, p), normalised
    Gaussian columns, with |z_i| ≤ ε (|(A⁺θ)_i| + 1), A⁺ the pseudo-inverse. The maximum is found by the ascent of
    `sharpscope.worst_case_sharpness` with ``steps`` steps from δ = 0; the paper takes ten steps of L-BFGS-B. A lower
    bound of the maximum, never negative.

    Raises
    ------
    InputError
        For an ε that is not positive, or fewer than one step or direction.
    NonFiniteError
        Where the loss at θ is not finite.

    """
    require_positive("epsilon", epsilon, "the paper's are 1e-3 and 5e-4")
    require_at_least("steps", steps, 1, "20 are usually enough")
    cost, theta = CostMeter(obj), obj.flat()
    noise = generator("epsilon_sharpness", seed, "start")
    if subspace is None:
        ball = Ball(theta.abs() + 1, epsilon, "linf")
        run = Ascent(steps, "steepest", None).run(ball, torch.zeros_like(theta), noise)
    else:
        require_at_least("subspace", subspace, 1, "the paper's is 100")
        directions = _random_directions(obj, min(subspace, obj.size), seed)  # (p, size)
        coordinates = torch.linalg.lstsq(directions.double().T.cpu(), theta.double().cpu()[:, None]).solution[
            :, 0
        ]
        ball = Ball(coordinates.abs().to(theta) + 1, epsilon, "linf")
        within = Ascent(steps, "steepest", None).run(ball, torch.zeros_like(ball.scale), noise)
        run = _in_subspace(within, directions)
    ((base, highest),) = run_ascents([(obj, run)], theta)
    if not math.isfinite(base):
        raise NonFiniteError(
            f"the loss must be finite at the measured parameters, it is {base:g}; measure an earlier checkpoint"
        )
    value = 100 * max(highest - base, 0.0) / (1 + base)
    return Estimate(
        "epsilon_sharpness",
        value,
        converged=math.isfinite(value),
        cost=cost.total(),
        protocol={"epsilon": epsilon, "steps": steps, "subspace": subspace, "seed": seed, **obj.protocol},
        fingerprint=obj.fingerprint,
    )


def _random_directions(obj: Objective, count: int, seed: int) -> Tensor:
    rows = [
        torch.randn(obj.size, generator=generator("epsilon_sharpness", seed, "direction", i))
        for i in range(count)
    ]
    return torch.stack([(row / row.double().norm()).to(obj.device, obj.dtype) for row in rows])


def _in_subspace(run: AscentRun, directions: Tensor) -> AscentRun:
    """Run an ascent of coordinates z (p,) on δ = Aᵀz, A = ``directions`` (p, size)."""
    z, with_gradient = next(run)
    while True:
        loss, gradient = yield z @ directions, with_gradient
        try:
            z, with_gradient = run.send((loss, directions @ gradient))
        except StopIteration as end:
            result: tuple[float, float] = end.value
            return result
