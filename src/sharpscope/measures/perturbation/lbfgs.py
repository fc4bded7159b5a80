"""Ascent to a maximum inside a ball or on its boundary by projected L-BFGS, in the ball's own coordinates u = δ ⊘ c.

Steepest steps crawl where the maximum lies inside the ball on an ill-conditioned hill; curvature learnt from the last
steps (Nocedal 1980) takes the climb there in tens of gradients. On the boundary the same is done within the face that
the climb is on: for the box, in the coordinates that are not held at ±ρ (Bertsekas 1982); for the ℓ2 ball, in the
tangent space of the sphere.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpscope.measures.perturbation.ball import Ball
from sharpscope.measures.perturbation.climb import Ascending

MEMORY = 6
"""Pairs of steps and gradient changes kept."""

SHRINK = (0.1, 0.5)
"""A refused step is shortened to the top of the parabola through it, within these shares of its length."""

TRIES = 8
"""Refusals in a row along the gradient itself after which the climb has arrived."""


@dataclass(frozen=True)
class Place:
    """A point of a climb: δ (size,), the loss there and its gradient (size,)."""

    delta: Tensor
    loss: float
    gradient: Tensor


def to_the_top(ball: Ball, best: Place, reach: float, steps: int) -> Ascending:
    """Climb on from a place for at most ``steps`` evaluations, every accepted one higher; return the highest loss.

    ``reach`` is the length of the first step in the ball's norm.
    """
    here, pairs = _Stand.of(ball, best), deque[_Pair](maxlen=MEMORY)
    if ball.norm == "linf":  # lengths are ℓ2 from here on
        reach *= math.sqrt(max(int(here.slope.count_nonzero()), 1))
    while steps > 0:
        along = _newton(pairs, here)
        rise = _dot(along, here.slope)
        if not pairs or rise <= 0:
            pairs.clear()
            size = _length(here.slope)
            along, rise = here.slope * (reach / max(size, torch.finfo(along.dtype).tiny)), reach * size
        if rise <= torch.finfo(along.dtype).eps * abs(best.loss):  # less than rounding would show
            return best.loss
        share, found = 1.0, None
        for _ in range(min(TRIES, steps)):
            trial = ball.project(ball.scale * (here.u + share * along))
            value, gradient = yield trial, True
            steps -= 1
            if not math.isfinite(value):
                return math.inf
            if value > best.loss:
                found = Place(trial, value, gradient)
                break
            parabola = share * share * rise / (2 * (share * rise - (value - best.loss)))
            share = min(max(parabola, SHRINK[0] * share), SHRINK[1] * share)
        if found is not None:
            there = _Stand.of(ball, found)
            reach = 2 * _learn(pairs, here, there)
            here, best = there, found
        elif pairs:
            pairs.clear()  # once more, along the gradient itself
        else:
            return best.loss
    return best.loss


@dataclass(frozen=True)
class _Stand:
    """Where a climb stands in the coordinates u = δ ⊘ c, all (size,).

    ``slope`` is the gradient within the face that u is on: 0 where the box holds a coordinate that would leave it
    (``free`` is 1 elsewhere), and less its part along ``normal``, the unit vector u / ‖u‖, where u is on the sphere
    and would leave that. ``gradient`` is what curvature is learnt from.
    """

    u: Tensor
    gradient: Tensor
    slope: Tensor
    free: Tensor | None
    normal: Tensor | None

    @classmethod
    def of(cls, ball: Ball, place: Place) -> _Stand:
        u = torch.where(ball.scale > 0, place.delta / ball.scale, torch.zeros_like(place.delta))
        gradient = ball.scale * place.gradient
        edge = ball.radius * (1 - 8 * torch.finfo(u.dtype).eps)
        if ball.norm == "linf":
            free = 1 - ((u.abs() >= edge) & (u * gradient > 0)).to(u.dtype)
            return cls(u, gradient, free * gradient, free, None)
        if _length(u) < edge or _dot(u, gradient) <= 0:
            return cls(u, gradient, gradient, None, None)
        normal = u / _length(u)
        tangent = gradient - _dot(gradient, normal) * normal
        return cls(u, tangent, tangent, None, normal)


@dataclass(frozen=True)
class _Pair:
    """A step and how much the gradient fell along it, both (size,), and their inner product, > 0."""

    step: Tensor
    fall: Tensor
    product: float


def _learn(pairs: deque[_Pair], before: _Stand, after: _Stand) -> float:
    """Keep what a step says of the curvature, forget all on entering or leaving the sphere; return its length."""
    step, fall = after.u - before.u, before.gradient - after.gradient
    size, product = _length(step), _dot(step, fall)
    if (before.normal is None) != (after.normal is None):
        pairs.clear()
    elif product > 1e-10 * size * _length(fall):  # curved downwards, as at a maximum
        pairs.append(_Pair(step, fall, product))
    return size


def _newton(pairs: deque[_Pair], here: _Stand) -> Tensor:
    """Return −H⁻¹ times the slope, H the curvature that the pairs show within the face: the two-loop recursion."""
    free = here.free
    within = [p.product if free is None else _dot(p.step * free, p.fall) for p in pairs]
    usable = [(p, inner) for p, inner in zip(pairs, within, strict=True) if inner > 1e-6 * p.product]
    q, shares = here.slope.clone(), []
    for pair, inner in reversed(usable):
        shares.append(_dot(pair.step, q) / inner)
        _add(q, pair.fall, -shares[-1], free)
    if usable:
        last, inner = usable[-1]
        q *= inner / _dot(last.fall if free is None else last.fall * free, last.fall)
    for pair, inner in usable:
        _add(q, pair.step, shares.pop() - _dot(pair.fall, q) / inner, free)
    if here.normal is not None:
        q -= _dot(q, here.normal) * here.normal
    return q


def _add(to: Tensor, vector: Tensor, times: float, free: Tensor | None) -> None:
    """Add a multiple of a vector in place, within the face."""
    if free is None:
        to.add_(vector, alpha=times)
    else:
        to.addcmul_(vector, free, value=times)


def _dot(a: Tensor, b: Tensor) -> float:
    return float(a @ b)


def _length(a: Tensor) -> float:
    return float(torch.linalg.vector_norm(a, dtype=torch.float64))
