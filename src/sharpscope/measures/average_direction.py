"""Average-direction sharpness: how much the loss rises at a given distance in a random direction."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError, NotConvergedWarning, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.perturbation.batched import losses_at
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of
from sharpscope.seeding import generator

FIRST_ROUND, MOST_GROWTH = 32, 4.0
"""Draws before the interval's width is compared with the target for the first time, and the largest factor by which
one round raises their number.

A stopping rule that is applied too early stops where the draws happen to agree. With 32 draws before the first
comparison, 95 % intervals of a target width covered the known value on a quadratic in 94.0 and 95.7 % of 1000
repetitions (widths of half and a fifth of the value).
"""


@register(
    "average_direction",
    title="Average-direction sharpness",
    symbol="E L(θ+εg) − L(θ)",
    definition="Expected rise of the loss at distance ε in a uniformly random direction.",
    source="patriarca2024, equation 1",
    unit="loss",
    cost="295 losses",
)
def average_direction_sharpness(
    obj: Objective,
    radius: float = 5.0,
    samples: int = 294,
    seed: int = 0,
    *,
    antithetic: bool = True,
    adaptive: bool = False,
    width: float | None = None,
    relative_width: float | None = None,
    max_samples: int = 20_000,
    elementwise: bool = False,
    params: Selection = None,
    normalise_logits: bool = False,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Estimate:
    """Estimate E_g[L(θ + ε c ⊙ g/‖g‖₂)] − L(θ) for Gaussian g, ε = ``radius``, c = 1.

    patriarca2024, equations 1 and 2; ε in units of the parameters, the result in units of the loss.

    Parameters
    ----------
    samples
        Perturbed losses evaluated; not used with a target width.
    antithetic
        Evaluate each direction with its opposite: first-order terms cancel exactly and the pair means are
        the independent draws behind the standard error. ``False`` is the paper's plain protocol.
    adaptive
        c = |θ|: every weight moves in proportion to its size, which makes the value invariant under
        function-preserving rescalings; ε has then no unit.
    width, relative_width
        Draw until the 95 % interval is at most this wide, in units of the loss or as a multiple of the value's
        magnitude; ``samples`` is then not used. Where ``max_samples`` do not suffice, a warning says so and
        ``converged`` is False.
    elementwise
        Do not divide by ‖g‖₂: every weight gets Gaussian noise of standard deviation ε c, the average-case sharpness
        of Andriushchenko et al. (2023), as in their code.
    params, normalise_logits
        What is measured, see `sharpscope.objective.views.view_of`.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`: what is returned early has the standard error of the draws so far.
    seed
        Direction i is drawn on the CPU from (seed, i) alone, so it is the same on every device and for
        every number of samples.

    Raises
    ------
    InputError
        For a radius or width that is not positive and finite, too few (or, antithetic, odd) samples, and where time
        ends before two draws.

    Examples
    --------
    On a quadratic every direction of a sphere averages to ε² tr(H) / (2 size), here 0.5² · 4 / 4:

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1, dtype=torch.float64)))
    >>> round(average_direction_sharpness(obj, radius=0.5, samples=4).value, 6)
    0.25

    """
    _check(radius, samples, antithetic, width, relative_width, max_samples)
    obj, chosen = view_of(obj, params=params, normalise_logits=normalise_logits)
    cost, centre = CostMeter(obj), obj.flat()
    limits = CallLimits(
        "average_direction_sharpness",
        obj,
        deadline,
        progress,
        on_interrupt,
        unit="pass",
        expected=1 + samples,
    )
    obj = limits.over
    scale = radius * centre.abs() if adaptive else radius
    each = 2 if antithetic else 1
    points = _points(centre, scale, obj, seed, antithetic, elementwise)

    def draw(count: int) -> list[float]:
        drawn = list[float]()
        with limits.until_it_ends():
            for value in losses_at(obj, islice(points, count * each)):
                drawn.append(value - base)
        drawn = drawn[: len(drawn) // each * each]
        return [(a + b) / 2 for a, b in zip(drawn[::2], drawn[1::2], strict=True)] if antithetic else drawn

    def estimate() -> Estimate:
        return Estimate.of_samples(
            "average_direction",
            draws,
            cost.total(),
            {
                "radius": radius,
                "samples": len(draws) * each,
                "antithetic": antithetic,
                "adaptive": adaptive,
                "seed": seed,
                **({} if target is None else {"width": width, "relative_width": relative_width}),
                **({"elementwise": True} if elementwise else {}),
                **chosen,
                **obj.protocol,
            },
            obj.fingerprint,
            reached and not limits.ended,
        )

    with limits.until_it_ends():
        base = obj.loss()
    target, reached = (width if relative_width is None else relative_width), True
    if target is None:
        draws = _enough(draw(samples // each) if not limits.ended else [], limits)
        return estimate()
    most = max_samples // each
    draws = _enough(draw(min(FIRST_ROUND, most)) if not limits.ended else [], limits)
    while not limits.ended:
        excess = _excess(draws, width, relative_width)
        reached = excess <= 1
        if reached or len(draws) >= most or not all(map(math.isfinite, draws)):
            break
        grown = math.ceil(len(draws) * min(MOST_GROWTH, max(1.1, 1.05 * excess**2)))
        limits.expected = 1 + each * min(grown, most)
        draws += draw(min(grown, most) - len(draws))
    if limits.ended:
        _enough(draws, limits)
    elif not reached:
        warnings.warn(
            f"average-direction sharpness: the interval is {excess:.3g} times as wide as asked for after "
            f"{len(draws) * each} samples; raise max_samples or the width",
            NotConvergedWarning,
            stacklevel=2,
        )
    return estimate()


def _enough(draws: list[float], limits: CallLimits) -> list[float]:
    """Return the draws; refuse fewer than two, and warn where time ended before all were drawn."""
    if limits.ended and len(draws) < 2:
        raise InputError(
            f"{limits.call} must be given time for at least two draws, here {limits.ended}; raise the deadline, or "
            "measure fewer samples"
        )
    if limits.ended:
        warnings.warn(
            f"average-direction sharpness: {limits.ended} after {len(draws)} draws; raise the deadline",
            NotConvergedWarning,
            stacklevel=3,
        )
    return draws


def _excess(draws: list[float], width: float | None, relative_width: float | None) -> float:
    """Return how many times as wide as the target the interval is; 0 where it is narrow enough."""
    so_far = Estimate.of_samples("", draws, {}, {}, "")
    low, high = so_far.interval(0.95)
    allowed = [] if width is None else [width]
    allowed += [] if relative_width is None else [relative_width * abs(so_far.value)]
    smallest = min(allowed)
    if high - low <= smallest:
        return 0.0
    return (high - low) / smallest if smallest > 0 else math.inf


def _points(
    centre: Tensor, scale: Tensor | float, obj: Objective, seed: int, antithetic: bool, elementwise: bool
) -> Iterator[Tensor]:
    index = 0
    while True:
        draw = gaussian(obj, seed, index) if elementwise else unit_direction(obj, seed, index)
        step = scale * draw  # (size,)
        yield centre + step
        if antithetic:
            yield centre - step
        index += 1


def gaussian(obj: Objective, seed: int, index: int) -> Tensor:
    """Return Gaussian draw number ``index`` of a seed (size,)."""
    return obj.layout.normal(generator("average_direction", seed, index)).to(obj.device, obj.dtype)


def unit_direction(obj: Objective, seed: int, index: int) -> Tensor:
    """Return direction number ``index`` of a seed: a uniformly distributed unit vector (size,)."""
    g = obj.layout.normal(generator("average_direction", seed, index))
    unit: Tensor = g / torch.linalg.vector_norm(g, dtype=torch.float64)
    return unit.to(obj.device, obj.dtype)


def _check(
    radius: float,
    samples: int,
    antithetic: bool,
    width: float | None,
    relative_width: float | None,
    max_samples: int,
) -> None:
    require_positive("radius", radius, "the paper's is 5")
    least = 4 if antithetic else 2
    for name, value in (("samples", samples), ("max_samples", max_samples)):
        if value < least or (antithetic and value % 2):
            raise InputError(
                f"{name} must be {'even and ' if antithetic else ''}at least {least}, received {value}; "
                "a standard error needs two independent draws"
            )
    for name, target in (("width", width), ("relative_width", relative_width)):
        if target is not None:
            require_positive(name, target, "leave it out for a fixed number of samples")
