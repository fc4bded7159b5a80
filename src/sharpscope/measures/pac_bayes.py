"""How large a perturbation the loss tolerates: the PAC-Bayes and sharpness measures of Jiang et al. 2020."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from sharpscope.errors import require_at_least, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.bracketing import crossing
from sharpscope.measures.perturbation.batched import losses_at
from sharpscope.measures.registry import register
from sharpscope.measures.worst_case import worst_case_sharpness
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


@register(
    "pac_bayes_sigma",
    title="Tolerated noise",
    symbol="1/σ²",
    definition="One over the largest variance of Gaussian noise on the weights at which the expected loss rises by "
    "at most 0.1.",
    source="Jiang et al. 2020, equation 53; Dziugaite et al. 2020",
    unit="1 / parameter²",
    cost="about 200 losses",
)
def pac_bayes_sigma(
    obj: Objective, deviation: float = 0.1, samples: int = 20, rtol: float = 0.02, seed: int = 0
) -> Estimate:
    """Return 1/σ², σ the largest with E L(θ + σ g) − L(θ) ≤ ``deviation``, g standard normal.

    The expectation is over ``samples`` draws in antithetic pairs, the same for every σ, so that the search is of one
    smooth function. The standard error follows from that of the rise at σ and its slope. Jiang et al. and
    Dziugaite et al. bound the loss of accuracy; here it is the loss itself, which needs no classes. The public code
    of Dziugaite et al. draws with standard deviation σ² in place of σ.

    Raises
    ------
    InputError
        For a deviation or tolerance that is not positive, or an odd number of samples.

    """
    return _tolerated("pac_bayes_sigma", obj, torch.ones_like(obj.flat()), deviation, samples, rtol, seed)


@register(
    "pac_bayes_sigma_magnitude",
    title="Tolerated noise in proportion to the weights",
    symbol="1/σ'²",
    definition="One over the largest variance of noise in proportion to each weight at which the expected loss rises "
    "by at most 0.1.",
    source="Jiang et al. 2020, equation 61; Dziugaite et al. 2020",
    unit="",
    cost="about 200 losses",
    rescaling_invariant=True,
)
def pac_bayes_sigma_magnitude(
    obj: Objective, deviation: float = 0.1, samples: int = 20, rtol: float = 0.02, seed: int = 0
) -> Estimate:
    """Return 1/σ², σ the largest with E L(θ + σ |θ| ⊙ g) − L(θ) ≤ ``deviation``; see `pac_bayes_sigma`.

    The papers add a variance ε² = 10⁻⁶ to every weight, which breaks the invariance under rescalings; here it is 0.
    """
    scale = obj.flat().abs()
    return _tolerated("pac_bayes_sigma_magnitude", obj, scale, deviation, samples, rtol, seed)


def _tolerated(
    measure: str, obj: Objective, scale: Tensor, deviation: float, samples: int, rtol: float, seed: int
) -> Estimate:
    require_positive("deviation", deviation, "the papers' is 0.1")
    require_positive("rtol", rtol, "for example 0.02")
    require_at_least("samples", samples, 4, "a standard error needs two pairs")
    cost = CostMeter(obj)
    centre, base = obj.flat(), obj.loss()

    def rise(sigma: float) -> Estimate:
        def points() -> Iterator[Tensor]:
            for index in range(samples // 2):
                g = obj.layout.normal(generator("pac_bayes", seed, index))
                step = sigma * scale * g.to(obj.device, obj.dtype)
                yield centre + step
                yield centre - step

        losses = [value - base for value in losses_at(obj, points())]
        pairs = [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]
        return Estimate.of_samples("", pairs, {}, {}, "")

    low, high = crossing(lambda sigma: not rise(sigma).value <= deviation, 0.05, rtol)
    protocol = {"deviation": deviation, "samples": samples, "rtol": rtol, "seed": seed, **obj.protocol}
    if not (low > 0 and math.isfinite(high)):
        value = 0.0 if low > 0 else math.inf
        return Estimate(
            measure, value, converged=False, cost=cost.total(), protocol=protocol, fingerprint=obj.fingerprint
        )
    sigma, there, wider = (low + high) / 2, rise(low), rise(1.1 * high)
    slope = (wider.value - there.value) / (1.1 * high - low)
    assert there.stderr is not None
    noise = there.stderr / slope if slope > 0 else math.inf
    error = math.hypot(noise, (high - low) / math.sqrt(12))  # the crossing is anywhere in the bracket
    return Estimate(
        measure,
        1 / sigma**2,
        stderr=2 * error / sigma**3,
        samples=samples // 2,
        converged=math.isfinite(error),
        cost=cost.total(),
        protocol={**protocol, "sigma": sigma},
        fingerprint=obj.fingerprint,
    )


@register(
    "sharpness_radius",
    title="Tolerated worst case",
    symbol="1/α²",
    definition="One over the squared largest radius of a box around the weights in which ascent finds a rise of the "
    "loss of at most 0.1.",
    source="Jiang et al. 2020; Keskar et al. 2017",
    unit="1 / parameter²",
    cost="about 100 gradients",
)
def sharpness_radius(
    obj: Objective, deviation: float = 0.1, steps: int = 8, rtol: float = 0.02, seed: int = 0
) -> Estimate:
    """Return 1/α², α the largest with max_{|δ_i| ≤ α} L(θ + δ) − L(θ) ≤ ``deviation``.

    It is the worst-case twin of `pac_bayes_sigma`. The maximum is that of `sharpscope.worst_case_sharpness` with
    ``steps`` steps on all the data: a lower bound, so the value is one too. The error is half of the bracket that
    bisection ends with.
    """
    return _tolerated_worst_case("sharpness_radius", obj, False, deviation, steps, rtol, seed)


@register(
    "sharpness_radius_magnitude",
    title="Tolerated worst case in proportion to the weights",
    symbol="1/α'²",
    definition="One over the squared largest relative change of all weights for which ascent finds a rise of at most "
    "0.1.",
    source="Jiang et al. 2020; Keskar et al. 2017",
    unit="",
    cost="about 100 gradients",
    rescaling_invariant=True,
)
def sharpness_radius_magnitude(
    obj: Objective, deviation: float = 0.1, steps: int = 8, rtol: float = 0.02, seed: int = 0
) -> Estimate:
    """Return 1/α², α the largest with max_{|δ| ≤ α|θ|} L(θ + δ) − L(θ) ≤ ``deviation``; see `sharpness_radius`."""
    return _tolerated_worst_case("sharpness_radius_magnitude", obj, True, deviation, steps, rtol, seed)


def _tolerated_worst_case(
    measure: str, obj: Objective, adaptive: bool, deviation: float, steps: int, rtol: float, seed: int
) -> Estimate:
    require_positive("deviation", deviation, "the papers' is 0.1")
    require_positive("rtol", rtol, "for example 0.02")
    cost = CostMeter(obj)

    def above(radius: float) -> bool:
        e = worst_case_sharpness(obj, radius, "linf", adaptive, batch_size=None, steps=steps, seed=seed)
        return not e.value <= deviation

    low, high = crossing(above, 0.01, rtol)
    found = low > 0 and math.isfinite(high)
    radius = (low + high) / 2
    return Estimate(
        measure,
        1 / radius**2 if found else 0.0 if low > 0 else math.inf,
        error=1 / low**2 - 1 / radius**2 if found else math.inf,
        converged=found,
        cost=cost.total(),
        protocol={
            "deviation": deviation,
            "steps": steps,
            "rtol": rtol,
            "seed": seed,
            **({"radius": radius} if found else {}),
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )
