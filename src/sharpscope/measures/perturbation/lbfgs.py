"""L-BFGS ascent to a maximum inside a ball or on its boundary, in the ball's own coordinates u = δ ⊘ c.

Steepest steps make little progress where the maximum lies inside the ball and the loss is ill-conditioned. With
curvature estimated from the last steps (L-BFGS, Nocedal 1980) the maximum is reached in tens of gradients. On the
boundary the iteration stays in the active face: for ℓ∞, in the coordinates that are not held at ±ρ (projected Newton,
Bertsekas 1982); for ℓ2, in the tangent space of the sphere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from sharpscope.measures.perturbation.ball import Ball

Request: TypeAlias = tuple[Tensor, bool]
"""A perturbation δ (size,) and whether the gradient there is wanted beside the loss."""

Response: TypeAlias = tuple[float, Tensor]
"""L(θ + δ) and ∇L(θ + δ) (size,): zeros where it was not wanted, an infinite loss where the network overflows."""

AscentPart: TypeAlias = Generator[Request, Response, float]
"""A part of an ascent: yields a request for each evaluation and returns the highest loss found."""

MEMORY = 6
"""Number of (step, change of gradient) pairs kept."""

SHRINK = (0.1, 0.5)
"""A rejected step is shortened to the maximum of the parabola through it, within these shares of its length."""

TRIES = 8
"""Number of consecutive rejections along the gradient after which the iterate counts as the maximum."""


@dataclass(frozen=True)
class Iterate:
    """A point of an ascent: δ (size,), the loss there and its gradient (size,)."""

    delta: Tensor
    loss: float
    gradient: Tensor


def lbfgs_ascent(ball: Ball, best: Iterate, first_step: float, steps: int) -> AscentPart:
    """Ascend from an iterate with at most ``steps`` evaluations and return the highest loss.

    Every accepted iterate has a higher loss than the one before. ``first_step`` is the length of the first step in
    the ball's norm.
    """
    here, pairs = _ActiveSet.of(ball, best), deque[_Pair](maxlen=MEMORY)
    if ball.norm == "linf":  # lengths are ℓ2 from here on
        first_step *= math.sqrt(max(int(here.slope.count_nonzero()), 1))
    while steps > 0:
        along = _newton_direction(pairs, here)
        rise = _dot(along, here.slope)
        if not pairs or rise <= 0:
            pairs.clear()
            size = _norm(here.slope)
            along, rise = (
                here.slope * (first_step / max(size, torch.finfo(along.dtype).tiny)),
                first_step * size,
            )
        if rise <= torch.finfo(along.dtype).eps * abs(best.loss):  # rounding would hide a rise this small
            return best.loss
        share, accepted = 1.0, None
        for _ in range(min(TRIES, steps)):
            trial = ball.project(ball.scale * (here.u + share * along))
            value, gradient = yield trial, True
            steps -= 1
            if not math.isfinite(value):
                return math.inf
            if value > best.loss:
                accepted = Iterate(trial, value, gradient)
                break
            parabola = share * share * rise / (2 * (share * rise - (value - best.loss)))
            share = min(max(parabola, SHRINK[0] * share), SHRINK[1] * share)
        if accepted is not None:
            there = _ActiveSet.of(ball, accepted)
            first_step = 2 * _update_pairs(pairs, here, there)
            here, best = there, accepted
        elif pairs:
            pairs.clear()  # the next attempt is along the gradient itself
        else:
            return best.loss
    return best.loss


@dataclass(frozen=True)
class _ActiveSet:
    """An iterate in the coordinates u = δ ⊘ c with the constraints that are active there; tensors are (size,).

    ``slope`` is the gradient within the active face: 0 in coordinates that the ℓ∞ bound holds (``free`` is 1 in the
    others), and without its component along ``normal`` = u / ‖u‖ where the ℓ2 bound holds. A bound is active only
    where the gradient points out of the ball. ``gradient`` is what curvature is estimated from.
    """

    u: Tensor
    gradient: Tensor
    slope: Tensor
    free: Tensor | None
    normal: Tensor | None

    @classmethod
    def of(cls, ball: Ball, iterate: Iterate) -> _ActiveSet:
        u = torch.where(ball.scale > 0, iterate.delta / ball.scale, torch.zeros_like(iterate.delta))
        gradient = ball.scale * iterate.gradient
        edge = ball.radius * (1 - 8 * torch.finfo(u.dtype).eps)
        if ball.norm == "linf":
            free = 1 - ((u.abs() >= edge) & (u * gradient > 0)).to(u.dtype)
            return cls(u, gradient, free * gradient, free, None)
        if _norm(u) < edge or _dot(u, gradient) <= 0:
            return cls(u, gradient, gradient, None, None)
        normal = u / _norm(u)
        tangent = gradient - _dot(gradient, normal) * normal
        return cls(u, tangent, tangent, None, normal)


@dataclass(frozen=True)
class _Pair:
    """A step, the decrease of the gradient along it (both (size,)) and their inner product, > 0."""

    step: Tensor
    decrease: Tensor
    product: float


def _update_pairs(pairs: deque[_Pair], before: _ActiveSet, after: _ActiveSet) -> float:
    """Add the step's pair, drop all pairs where the ℓ2 bound became active or inactive; return the step's length."""
    step, decrease = after.u - before.u, before.gradient - after.gradient
    size, product = _norm(step), _dot(step, decrease)
    if (before.normal is None) != (after.normal is None):
        pairs.clear()
    elif product > 1e-10 * size * _norm(
        decrease
    ):  # the curvature along the step is negative, as at a maximum
        pairs.append(_Pair(step, decrease, product))
    return size


def _newton_direction(pairs: deque[_Pair], here: _ActiveSet) -> Tensor:
    """Return −H⁻¹ slope, H the Hessian that the pairs estimate within the active face, by the two-loop recursion."""
    free = here.free
    within = [p.product if free is None else _dot(p.step * free, p.decrease) for p in pairs]
    usable = [(p, inner) for p, inner in zip(pairs, within, strict=True) if inner > 1e-6 * p.product]
    q, shares = here.slope.clone(), []
    for pair, inner in reversed(usable):
        shares.append(_dot(pair.step, q) / inner)
        _add_within_face(q, pair.decrease, -shares[-1], free)
    if usable:
        last, inner = usable[-1]
        q *= inner / _dot(last.decrease if free is None else last.decrease * free, last.decrease)
    for pair, inner in usable:
        _add_within_face(q, pair.step, shares.pop() - _dot(pair.decrease, q) / inner, free)
    if here.normal is not None:
        q -= _dot(q, here.normal) * here.normal
    return q


def _add_within_face(to: Tensor, vector: Tensor, times: float, free: Tensor | None) -> None:
    """Add a multiple of a vector in place, in the free coordinates only."""
    if free is None:
        to.add_(vector, alpha=times)
    else:
        to.addcmul_(vector, free, value=times)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a @ b)


def _norm(a: Tensor) -> float:
    return float(torch.linalg.vector_norm(a, dtype=torch.float64))
