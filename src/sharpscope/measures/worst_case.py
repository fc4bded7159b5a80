"""Worst-case sharpness: the largest rise of the loss inside a ball around the weights, found by gradient ascent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import get_args

import torch

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError, require_at_least, require_one_of, require_positive
from sharpscope.estimate import Estimate
from sharpscope.measures.perturbation.ascent import Ascent, AscentRun, Direction
from sharpscope.measures.perturbation.ball import Ball, Norm
from sharpscope.measures.perturbation.batched import run_ascents
from sharpscope.measures.perturbation.over_batches import over_batches, rise
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of
from sharpscope.seeding import generator


@register(
    "worst_case",
    title="Worst-case sharpness",
    symbol="E max L_S(θ+δ) − L_S(θ)",
    definition="Expected largest rise of the loss over batches inside a ball around the weights, adaptive (scaled by "
    "the weights' magnitudes) unless stated.",
    source="hammoud2023, section II",
    unit="loss",
    cost="50 batches of 64, 6 gradients each",
    rescaling_invariant=True,
)
def worst_case_sharpness(
    obj: Objective,
    radius: float = 1e-4,
    norm: Norm = "linf",
    adaptive: bool = True,
    batch_size: int | None = 64,
    restarts: int = 50,
    steps: int = 5,
    step_size: float | None = None,
    seed: int = 0,
    *,
    direction: Direction | None = None,
    starts: int = 1,
    params: Selection = None,
    normalise_logits: bool = False,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Estimate:
    """Estimate E_S[ max_{‖δ ⊘ c‖ ≤ ρ} L_S(θ + δ) − L_S(θ) ] over batches S of m samples, ρ = ``radius``.

    hammoud2023, section II-A; c = |θ| when ``adaptive``, else 1. The unit is that of the loss. Each maximum is a
    lower bound: the highest loss of a projected gradient ascent that starts from δ = 0, so it is never negative.
    A weight that is zero cannot move in the adaptive ball. Ascent and evaluation use the same batch.

    Parameters
    ----------
    batch_size, restarts
        ``restarts`` batches of m = ``batch_size`` samples, each drawn without replacement; the standard error
        is over batches. ``batch_size=None``: all the data at once.
    steps
        Ascent steps per start.
    step_size
        A rate gives fixed steps δ ← P(δ + rate · direction); with the plain gradient and the training rate this is
        the paper's protocol. With None the step length is searched, from 2ρ down, and then curvature is estimated
        from the steps (L-BFGS): with enough steps the ascent reaches the maximum and stops there. On quadratics it is
        within 1e-4 of the maximum in 100 steps, wherever in the ball the maximum lies.
    direction
        ``"gradient"``, ``"steepest"`` (unit length in the ball's own norm: signs for ℓ∞) or ``"sign"``, the latter
        two in units of c. By default the gradient for a fixed rate, else steepest. The plain gradient is not
        rescaling-invariant, even in the adaptive ball.
    starts
        Ascents per batch. The first starts from δ = 0, the others from random points of the ball; the highest loss
        counts.
    params, normalise_logits
        What is measured, see `sharpscope.objective.views.view_of`.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`: what is returned early is the mean over fewer batches.

    Raises
    ------
    InputError
        For a radius or step size that is not positive and finite, an unknown norm or direction, counts below 1, or
        a batch larger than the data.

    Notes
    -----
    The ℓ2 ball is projected onto radially in the coordinates δ ⊘ c.

    Examples
    --------
    On a linear loss the maximum is ρ times the dual norm of the gradient, here 0.5 · (3 + 4) and 0.5 · 5:

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    >>> obj = Objective(model, lambda outputs, targets: outputs.mean(), (x, x[:, :1]))
    >>> [round(worst_case_sharpness(obj, 0.5, n, False, batch_size=None).value, 6) for n in ("linf", "l2")]
    [3.5, 2.5]

    """
    along: Direction = direction or ("steepest" if step_size is None else "gradient")
    _check(radius, norm, steps, step_size, along, starts)
    obj, chosen = view_of(obj, params=params, normalise_logits=normalise_logits)
    share = 1.0 if batch_size is None else restarts * batch_size / obj.n_samples
    passes = starts * (steps + 1) * share
    limits = CallLimits(
        "worst_case_sharpness", obj, deadline, progress, on_interrupt, unit="pass", expected=passes
    )
    obj, centre = limits.over, obj.flat()
    ball = Ball(centre.abs() if adaptive else torch.ones_like(centre), radius, norm)
    ascent = Ascent(steps, along, step_size)

    def ascents(parts: Iterable[Objective]) -> Iterator[tuple[Objective, AscentRun]]:
        for restart, part in enumerate(parts):
            for start in range(starts):
                noise = generator("worst_case", seed, restart, "start", start)
                delta = ball.random(noise) if start else torch.zeros_like(centre)
                yield part, ascent.run(ball, delta, noise)

    def rises(parts: Iterable[Objective]) -> Iterator[float]:
        results = run_ascents(ascents(parts), centre)
        while found := list(islice(results, starts)):
            yield rise(found[0][0], max(highest for _, highest in found))

    protocol = {
        "radius": radius,
        "norm": norm,
        "adaptive": adaptive,
        "steps": steps,
        "step_size": step_size,
        "direction": along,
        "starts": starts,
        **chosen,
    }
    return over_batches("worst_case", obj, rises, batch_size, restarts, seed, protocol, limits)


def _check(
    radius: float, norm: str, steps: int, step_size: float | None, direction: str, starts: int
) -> None:
    require_positive("radius", radius, "for example 1e-4")
    require_one_of("norm", norm, get_args(Norm))
    if step_size is not None:
        require_positive("step_size", step_size, "or None for steepest steps")
    require_one_of("direction", direction, get_args(Direction))
    if step_size is None and direction == "gradient":
        raise InputError(
            "the plain gradient needs a rate, received direction='gradient' without step_size; "
            "pass one or leave direction out"
        )
    require_at_least("starts", starts, 1, "1 ascends from the weights themselves")
    require_at_least("steps", steps, 1, "the paper's is 5")
