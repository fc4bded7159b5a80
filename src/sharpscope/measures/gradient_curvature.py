"""Curvature along the gradient: of all the data, of batches on their own, and by a line search of losses alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot
from sharpscope.errors import InputError, require_at_least, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.bracketing import crossing
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of
from sharpscope.seeding import generator

CURVATURE = "loss / parameter²"


@register(
    "directional_sharpness",
    title="Curvature along the gradient",
    symbol="gᵀHg / ‖g‖²",
    definition="The Rayleigh quotient of the Hessian along the loss gradient.",
    source="Pan & Li 2023; Andreyev & Beneventano 2024",
    unit=CURVATURE,
    cost="1 gradient, 1 product",
)
def directional_sharpness(
    obj: Objective,
    *,
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Return gᵀHg / ‖g‖², g = ∇L(θ): the curvature that a step of gradient descent meets; at most λ_max.

    ``params``, ``preconditioner`` and ``normalise_logits``: see `sharpscope.objective.views.view_of`. Raises
    `InputError` where the gradient vanishes.
    """
    obj, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    cost = CostMeter(obj)
    curvature, square = _along_gradient(obj)
    if square == 0:
        raise InputError(
            "directional_sharpness needs a gradient that is not zero, received a stationary point; use lambda_max"
        )
    return Estimate(
        "directional_sharpness",
        curvature / square,
        cost=cost.total(),
        protocol={**chosen, **obj.protocol},
        fingerprint=obj.fingerprint,
    )


@register(
    "batch_sharpness",
    title="Batch sharpness",
    symbol="E g_BᵀH_Bg_B / E‖g_B‖²",
    definition="Expected curvature of a batch's own loss along its own gradient, weighted by the squared gradient.",
    source="Andreyev & Beneventano 2024",
    unit=CURVATURE,
    cost="50 batches of 64, 1 gradient and 1 product each",
)
def batch_sharpness(
    obj: Objective, batch_size: int | None = 64, restarts: int = 50, seed: int = 0, *, ratios: bool = False
) -> Estimate:
    """Return E_B[g_Bᵀ H_B g_B] / E_B‖g_B‖² over ``restarts`` random batches B of ``batch_size`` samples.

    g_B and H_B are gradient and Hessian of the loss of batch B alone. SGD at rate η settles where it is about 2/η.
    The standard error is that of a ratio of means (delta method). With ``batch_size=None`` it is
    `directional_sharpness`. Batches are drawn without replacement, batch i from (seed, i) alone. ``ratios=True`` is
    E_B[g_Bᵀ H_B g_B / ‖g_B‖²], the default of the authors' public code, which offers both. The paper's text was not
    at hand.

    Raises
    ------
    InputError
        For a batch size or number of batches out of range, or gradients that all vanish.

    """
    if batch_size is None or batch_size == obj.n_samples:
        e = directional_sharpness(obj)
        protocol = {"batch_size": batch_size, "restarts": 1, "seed": seed, **obj.protocol}
        return Estimate("batch_sharpness", e.value, cost=e.cost, protocol=protocol, fingerprint=e.fingerprint)
    require_at_least("restarts", restarts, 2, "a standard error needs two batches")
    if not 1 <= batch_size <= obj.n_samples:
        raise InputError(
            f"batch_size must lie between 1 and the number of samples {obj.n_samples:g}, received {batch_size}; "
            "lower it or pass None for all the data"
        )
    cost = CostMeter(obj)
    curvatures, squares = [], []
    for restart in range(restarts):
        order = torch.randperm(int(obj.n_samples), generator=generator("batch_sharpness", seed, restart))
        part = obj.subset(order[:batch_size])
        cost.include(part, batch_size / obj.n_samples)
        curvature, square = _along_gradient(part)
        curvatures.append(curvature)
        squares.append(square)
    mean = math.fsum(squares) / restarts
    if mean == 0:
        raise InputError(
            "batch_sharpness needs gradients that are not zero, received batches that are all fitted exactly; "
            "use lambda_max"
        )
    protocol = {
        "batch_size": batch_size,
        "restarts": restarts,
        "seed": seed,
        "ratios": ratios,
        **obj.protocol,
    }
    if ratios:
        if min(squares) == 0:
            raise InputError(
                "ratios=True needs gradients that are not zero, received a batch that is fitted exactly; leave it out"
            )
        each = [c / s for c, s in zip(curvatures, squares, strict=True)]
        return Estimate.of_samples("batch_sharpness", each, cost.total(), protocol, obj.fingerprint)
    value = math.fsum(curvatures) / math.fsum(squares)
    rests = [(c - value * s) / mean for c, s in zip(curvatures, squares, strict=True)]
    spread = math.sqrt(math.fsum(r * r for r in rests) / (restarts - 1))
    return Estimate(
        "batch_sharpness",
        value,
        stderr=spread / math.sqrt(restarts),
        samples=restarts,
        cost=cost.total(),
        protocol=protocol,
        fingerprint=obj.fingerprint,
    )


def _along_gradient(obj: Objective) -> tuple[float, float]:
    """Return gᵀHg and ‖g‖²."""
    g = obj.gradient()
    return float(dot(g, obj.hvp(g))), float(dot(g, g))


@register(
    "critical_sharpness",
    title="Critical sharpness",
    symbol="2/η_c",
    definition="Two over the smallest step along the negative gradient at which the loss is above its start.",
    source="arXiv 2601.16979",
    unit=CURVATURE,
    cost="1 gradient, about 10 to 20 losses",
)
def critical_sharpness(obj: Objective, update: Tensor | None = None, rtol: float = 0.01) -> Estimate:
    """Return 2/η_c, η_c the step length η at which L(θ − ηΔ) first exceeds L(θ), Δ the gradient or ``update``.

    On a quadratic it is ΔᵀHΔ / Δᵀg, and gᵀHg / ‖g‖² for Δ = g. Only losses are needed: the step is doubled or halved
    until it brackets the crossing, then bisected. Where the loss oscillates on the line, the crossing found need not
    be the first. The paper's text was not at hand; the definition is that of its abstract.

    Parameters
    ----------
    update
        Δ (size,), for example what an optimizer subtracts, divided by its rate; by default ∇L(θ).
    rtol
        Relative width of the bracket at which bisection stops; half of it is the error.

    Raises
    ------
    InputError
        For an update along which the loss does not fall at first, or a tolerance that is not positive.

    """
    require_positive("rtol", rtol, "for example 0.01")
    cost = CostMeter(obj)
    base, gradient = obj.loss_and_gradient()
    direction = gradient if update is None else update.detach().to(gradient)
    obj.layout.split(direction)  # refuses a wrong length
    slope, theta = float(dot(direction, gradient)), obj.flat()
    if not slope > 0:
        raise InputError(
            f"critical_sharpness needs an update along which the loss falls, the slope is {-slope:g}; at a "
            "stationary point use lambda_max"
        )

    def rises(step: float) -> bool:
        return not obj.loss(theta - step * direction) <= base

    low, high = crossing(rises, max(abs(base), 1e-3) / slope, rtol)
    found = math.isfinite(high) and low > 0
    step = (low + high) / 2
    return Estimate(
        "critical_sharpness",
        2 / step if found else 0.0 if low > 0 else math.inf,
        error=2 / low - 2 / step if found else math.inf,
        converged=found,
        cost=cost.total(),
        protocol={"along": "gradient" if update is None else "update", "rtol": rtol, **obj.protocol},
        fingerprint=obj.fingerprint,
    )
