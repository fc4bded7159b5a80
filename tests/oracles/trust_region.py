"""Exact maxima of quadratics g·δ + ½ δᵀHδ over the balls {‖δ ⊘ c‖ ≤ ρ}, by other means than ascent."""

from __future__ import annotations

import torch
from scipy.optimize import brentq
from torch import Tensor


def l2_maximum(g: Tensor, hessian: Tensor, scale: Tensor, radius: float) -> float:
    """The secular equation ‖(λI − H)⁻¹ g‖ = ρ, λ ≥ max(0, λ_max), in the coordinates δ ⊘ c; hard case included."""
    g, hessian = scale * g, scale[:, None] * hessian * scale
    values, vectors = torch.linalg.eigh(hessian)
    a = vectors.T @ g
    top = float(values[-1])
    inside = top < 0 and float((a / values).norm()) <= radius
    if inside:  # the stationary point is the maximum
        return float(-0.5 * (a**2 / values).sum())
    in_top = values > top - 1e-12 * max(1.0, abs(top))
    rest = (a[~in_top] / (top - values[~in_top])) if bool((~in_top).any()) else torch.zeros(0)
    if float(a[in_top].norm()) < 1e-14 and float(rest.norm()) <= radius and top >= 0:
        missing = radius**2 - float(rest.norm()) ** 2  # the hard case: fill up along the top eigenvector
        part = a[~in_top] @ rest + 0.5 * (values[~in_top] * rest**2).sum()
        return float(part) + 0.5 * top * missing
    low = max(top, 0.0)
    high = low + float(a.norm()) / radius + 1e-12

    def excess(shift: float) -> float:
        return float((a / (shift - values)).norm()) - radius

    shift = brentq(excess, low + 1e-12 * max(low, 1.0), high, xtol=1e-14, rtol=1e-14)
    delta = a / (shift - values)
    return float(a @ delta + 0.5 * (values * delta**2).sum())


def separable_linf_maximum(g: Tensor, diagonal: Tensor, scale: Tensor, radius: float) -> float:
    """Each coordinate on its own: an end of its interval, or the stationary point of a concave one."""
    bound = radius * scale
    ends = g.abs() * bound + 0.5 * diagonal * bound**2
    stationary = torch.where(diagonal < 0, -g / diagonal, torch.full_like(g, torch.inf))
    inner = g * stationary + 0.5 * diagonal * stationary**2
    return float(torch.where(stationary.abs() < bound, inner, ends).sum())
