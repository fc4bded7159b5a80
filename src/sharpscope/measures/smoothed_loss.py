"""The loss smoothed by Gaussian noise on the weights: low-pass flatness and local entropy."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from sharpscope.errors import InputError, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.perturbation.batched import losses_at
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


def filter_norms(obj: Objective) -> Tensor:
    """Return for every weight the ℓ2 norm of its filter (size,); for vectors such as biases the norm of the vector.

    A filter is the set of weights that makes one output: a row of a matrix, a kernel of a convolution.
    """
    parts = []
    for tensor in obj.layout.split(obj.flat()).values():
        rows = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)
        parts.append(rows.norm(dim=1, keepdim=True).expand_as(rows).reshape(tensor.shape))
    return obj.layout.join(parts)


def noisy_losses(obj: Objective, scale: Tensor | float, samples: int, seed: int) -> list[tuple[float, float]]:
    """Return (L(θ + s ⊙ g), L(θ − s ⊙ g)) for ``samples``/2 Gaussian draws g, draw i from (seed, i) alone."""
    if samples < 4 or samples % 2:
        raise InputError(
            f"samples must be even and at least 4, received {samples}; a standard error needs two pairs"
        )
    centre = obj.flat()

    def points() -> Iterator[Tensor]:
        for index in range(samples // 2):
            g = obj.layout.normal(generator("smoothed_loss", seed, index))
            step = scale * g.to(obj.device, obj.dtype)
            yield centre + step
            yield centre - step

    losses = list(losses_at(obj, points()))
    return list(zip(losses[::2], losses[1::2], strict=True))


@register(
    "low_pass_flatness",
    title="Low-pass filtered loss",
    symbol="(L ∗ N(0, σ²))(θ)",
    definition="Expected loss under Gaussian noise on the weights, in proportion to the norm of each filter.",
    source="Bisla et al. 2022",
    unit="loss",
    cost="200 losses",
)
def low_pass_flatness(
    obj: Objective, sigma: float = 0.01, samples: int = 200, filterwise: bool = True, seed: int = 0
) -> Estimate:
    """Return E L(θ + ξ), ξ ~ N(0, Σ), Σ = σ² diag(‖filter‖²) or, not ``filterwise``, σ² I.

    Draws come in antithetic pairs, whose means the standard error is over. Checked against the authors' code of the
    measure, which is the isotropic one; the filter-wise noise is that of their optimizer LPF-SGD, from the paper's
    definition. Raises `InputError` for a σ that is not positive, or an odd number of samples.
    """
    require_positive("sigma", sigma, "the paper's is 0.01")
    cost = CostMeter(obj)
    scale = sigma * filter_norms(obj) if filterwise else sigma
    draws = [(a + b) / 2 for a, b in noisy_losses(obj, scale, samples, seed)]
    return Estimate.of_samples(
        "low_pass_flatness",
        draws,
        cost.total(),
        {"sigma": sigma, "samples": samples, "filterwise": filterwise, "seed": seed, **obj.protocol},
        obj.fingerprint,
    )


@register(
    "local_entropy",
    title="Negative local entropy",
    symbol="−log E exp(−L(θ+ξ))",
    definition="Minus the logarithm of the mean of exp(−loss) under Gaussian noise of variance 1/γ; low in wide "
    "valleys.",
    source="Chaudhari et al. 2017",
    unit="loss",
    cost="200 losses",
)
def local_entropy(
    obj: Objective, gamma: float = 1e4, samples: int = 200, beta: float = 1.0, seed: int = 0
) -> Estimate:
    """Return −(1/β) log E exp(−β L(θ + ξ)), ξ ~ N(0, I/(βγ)).

    It is −F(θ, γ)/β of the paper, without the constant (n/2) log(2π/(βγ)): their integral of
    exp(−β (L(θ′) + γ‖θ − θ′‖²/2)) is that of a Gaussian times exp(−β L). The paper has β = 1. By simple Monte Carlo
    over antithetic pairs, so γ must be large enough for the loss to change little; the standard error is by the delta
    method. Checked against the code of Bisla et al., which draws with standard deviation 1/γ in place of 1/√γ.

    Raises `InputError` for a γ or β that is not positive, or an odd number of samples.
    """
    require_positive("gamma", gamma, "for example 1e4")
    require_positive("beta", beta, "the paper's is 1")
    cost = CostMeter(obj)
    base = obj.loss()
    pairs = noisy_losses(obj, 1 / math.sqrt(beta * gamma), samples, seed)

    def weight(loss: float) -> float:
        rise = beta * (loss - base)
        return 0.0 if not rise < 700 else math.exp(-rise) if rise > -700 else math.inf

    mean = Estimate.of_samples("", [(weight(a) + weight(b)) / 2 for a, b in pairs], {}, {}, "")
    assert mean.stderr is not None
    possible = 0 < mean.value < math.inf
    return Estimate(
        "local_entropy",
        base - math.log(mean.value) / beta if possible else math.inf,
        stderr=mean.stderr / (beta * mean.value) if possible else math.nan,
        samples=len(pairs),
        converged=possible,
        cost=cost.total(),
        protocol={"gamma": gamma, "beta": beta, "samples": samples, "seed": seed, **obj.protocol},
        fingerprint=obj.fingerprint,
    )
