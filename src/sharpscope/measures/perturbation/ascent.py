"""Projected gradient ascent inside a ball: by steps of one fixed rate, as the papers do it, or of searched length."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from sharpscope.measures.perturbation.ball import Ball
from sharpscope.measures.perturbation.lbfgs import AscentPart, Iterate, Request, Response, lbfgs_ascent

AscentRun: TypeAlias = Generator[Request, Response, tuple[float, float]]
"""One ascent: yields a request for each evaluation and returns the loss at its start and the highest one found."""

Direction = Literal["gradient", "steepest", "sign"]

REGROWTH = 1.25
"""Factor by which an accepted step lengthens the next one; a rejected step halves it."""

MOMENTUM = 0.75
"""Share of the last accepted step that is added to the next one, as in Croce and Hein (2020); 0 after a rejection."""

REJECTIONS = 3
"""Number of rejected steps after which the ascent changes from steepest steps to L-BFGS."""


@dataclass(frozen=True)
class Ascent:
    """The rule by which δ is moved uphill: at most ``steps`` steps along ``direction``.

    With ``step_size`` None the step length starts at 2ρ. A step starts from the best iterate, is rejected unless it
    improves on it, and is then halved. After the third rejection the ascent continues by L-BFGS (`lbfgs_ascent`) to
    the maximum, and stops there even if steps are left. With a ``step_size`` all steps have this rate and each starts
    from the last iterate, δ ← P(δ + rate · direction); the highest loss counts.

    Directions: the plain ``gradient``; the ``steepest`` one, of unit length in the ball's own norm; or c ⊙ ``sign``
    of the gradient in either norm. All iterates follow a function-preserving rescaling only with the latter two.
    """

    steps: int
    direction: Direction
    step_size: float | None

    def run(self, ball: Ball, start: Tensor, noise: torch.Generator) -> AscentRun:
        """Ascend from δ = ``start`` (size,); the highest loss is infinite where the network overflows on the way."""
        first, gradient = yield start, True
        if not math.isfinite(first):
            return first, first
        iterate = Iterate(start, first, gradient)
        if self.step_size is None:
            return first, (yield from self._searched_steps(ball, iterate, noise))
        return first, (yield from self._fixed_steps(ball, iterate, self.step_size))

    def _searched_steps(self, ball: Ball, best: Iterate, noise: torch.Generator) -> AscentPart:
        length, momentum, rejected = 2 * ball.radius, torch.zeros_like(best.delta), 0
        for remaining in reversed(range(self.steps)):
            along = self._along(best.gradient, ball)
            if not bool(along.any()):  # at a stationary point a random direction leads away from it
                along = ball.random(noise) / ball.radius
            trial = ball.project(best.delta + length * along + MOMENTUM * momentum)
            loss, gradient = yield trial, remaining > 0
            if not math.isfinite(loss):
                return math.inf
            if loss > best.loss:
                momentum, best = trial - best.delta, Iterate(trial, loss, gradient)
                length = min(length * REGROWTH, 2 * ball.radius)
            else:
                length, momentum, rejected = length / 2, torch.zeros_like(best.delta), rejected + 1
                if rejected == REJECTIONS:
                    return (yield from lbfgs_ascent(ball, best, length, remaining))
        return best.loss

    def _fixed_steps(self, ball: Ball, start: Iterate, rate: float) -> AscentPart:
        delta, highest, gradient = start.delta, start.loss, start.gradient
        for remaining in reversed(range(self.steps)):
            delta = ball.project(delta + rate * self._along(gradient, ball))
            loss, gradient = yield delta, remaining > 0
            if not math.isfinite(loss):
                return math.inf
            highest = max(highest, loss)
        return highest

    def _along(self, gradient: Tensor, ball: Ball) -> Tensor:
        if self.direction == "steepest":
            return ball.steepest(gradient)
        return ball.scale * gradient.sign() if self.direction == "sign" else gradient
