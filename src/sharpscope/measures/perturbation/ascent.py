"""Projected gradient ascent inside a ball: by fixed steps, as the papers do it, or by steps of searched length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sharpscope.measures.perturbation.ball import Ball
from sharpscope.measures.perturbation.climb import Ascending, Climb
from sharpscope.measures.perturbation.lbfgs import Place, to_the_top

Direction = Literal["gradient", "steepest", "sign"]

REGROWTH = 1.25
"""An accepted step lengthens the next one; a refused one halves it."""

MOMENTUM = 0.75
"""Share of the last accepted step that the next one repeats, as in Croce and Hein (2020); none after a refusal."""

REFUSALS = 3
"""Refused steps after which long strides have done their part and curvature takes over."""


@dataclass(frozen=True)
class Ascent:
    """How δ climbs: ``steps`` of them, along ``direction``.

    ``step_size`` None: start at 2ρ, from the best point so far; a step that does not improve is taken back and
    halved. After the third refusal the climb goes on by quasi-Newton steps (`lbfgs`) to
    the maximum itself, and stops early there. Else the same rate every time, each step from the last:
    δ ← P(δ + rate · direction), the best iterate kept.

    Directions: the plain ``gradient``; the ``steepest`` one of unit length in the ball's own norm, or c ⊙ ``sign``
    of the gradient in either norm. Only with the latter two do all iterates follow a function-preserving rescaling.
    """

    steps: int
    direction: Direction
    step_size: float | None

    def climb(self, ball: Ball, start: Tensor, noise: torch.Generator) -> Climb:
        """Climb from δ = ``start`` (size,); the highest loss is infinite where the network overflows on the way."""
        first, gradient = yield start, True
        if not math.isfinite(first):
            return first, first
        place = Place(start, first, gradient)
        if self.step_size is None:
            return first, (yield from self._searching(ball, place, noise))
        return first, (yield from self._fixed(ball, place, self.step_size))

    def _searching(self, ball: Ball, best: Place, noise: torch.Generator) -> Ascending:
        length, glide, refused = 2 * ball.radius, torch.zeros_like(best.delta), 0
        for remaining in reversed(range(self.steps)):
            along = self._along(best.gradient, ball)
            if not bool(along.any()):  # a stationary point: any way out is as good as another
                along = ball.random(noise) / ball.radius
            trial = ball.project(best.delta + length * along + MOMENTUM * glide)
            here, slope = yield trial, remaining > 0
            if not math.isfinite(here):
                return math.inf
            if here > best.loss:
                glide, best = trial - best.delta, Place(trial, here, slope)
                length = min(length * REGROWTH, 2 * ball.radius)
            else:
                length, glide, refused = length / 2, torch.zeros_like(best.delta), refused + 1
                if refused == REFUSALS:
                    return (yield from to_the_top(ball, best, length, remaining))
        return best.loss

    def _fixed(self, ball: Ball, start: Place, rate: float) -> Ascending:
        delta, highest, gradient = start.delta, start.loss, start.gradient
        for remaining in reversed(range(self.steps)):
            delta = ball.project(delta + rate * self._along(gradient, ball))
            here, gradient = yield delta, remaining > 0
            if not math.isfinite(here):
                return math.inf
            highest = max(highest, here)
        return highest

    def _along(self, gradient: Tensor, ball: Ball) -> Tensor:
        if self.direction == "steepest":
            return ball.steepest(gradient)
        return ball.scale * gradient.sign() if self.direction == "sign" else gradient
