"""Normalised sharpness: the curvature of weight matrices, minimised over the scales of their rows and columns."""

from __future__ import annotations

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.measures.hessian_diagonal import GROUPS, hessian_diagonal
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective

ITERATIONS, SETTLED = 500, 1e-10
"""Most rounds of alternating minimisation, and the relative decrease at which it stops."""


@register(
    "normalised_sharpness",
    title="Normalised sharpness",
    symbol="Σ_l min_{a,b} Σ_ij H_ij a_i b_j + W_ij²/(a_i b_j)",
    definition="Sum over the weight matrices of curvature plus relative size of a perturbation, minimised over the "
    "variances of the matrix's rows and columns.",
    source="Tsuzuku et al. 2020",
    unit="√loss",
    cost="64 products",
    rescaling_invariant=True,
)
def normalised_sharpness(obj: Objective, samples: int = 64, seed: int = 0) -> Estimate:
    """Return Σ over weight matrices W of min_{a,b>0} Σ_ij [H_ij a_i b_j + W_ij² / (a_i b_j)].

    H_ij is the Hessian's diagonal entry of W_ij, negative estimates counted as 0; a and b are variances of rows
    (output channels) and columns (input channels), kernels of a convolution summed over their positions. The paper's
    bound has W² / (2λ a b) with a free λ, which only multiplies the value by 1/√(2λ). Biases and other vectors do not
    count. The diagonal is estimated from ``samples`` probes in units of the weights, so that the value follows
    function-preserving rescalings exactly; taking the positive part of a noisy diagonal biases it upwards. The
    standard error is a jackknife over eight groups of probes. Implemented from the definition; the paper's text and
    code were not at hand.

    Raises `InputError` where no parameter of two or more dimensions is measured.
    """
    theta = obj.flat()
    scale = torch.where(theta == 0, torch.ones_like(theta), theta.abs())
    found = hessian_diagonal(obj, samples, scale=scale, seed=seed)
    named = [n for n, shape in zip(obj.layout.names, obj.layout.shapes, strict=True) if len(shape) > 1]
    if not named:
        raise InputError("normalised_sharpness needs weight matrices, received vectors only; measure more")
    weights = obj.layout.split(theta)

    def value(diagonal: Tensor) -> float:
        entries = obj.layout.split(diagonal)
        return sum(minimised(_matrix(entries[n].clamp_min(0)), _matrix(weights[n].square())) for n in named)

    groups = found.groups
    rest = [value((groups.sum(0) - groups[i]) / (GROUPS - 1)) for i in range(GROUPS)]
    mean = sum(rest) / GROUPS
    variance = (GROUPS - 1) / GROUPS * sum((r - mean) ** 2 for r in rest)
    return Estimate(
        "normalised_sharpness",
        value(found.values),
        stderr=variance**0.5,
        samples=GROUPS,
        cost=found.cost,
        protocol={"samples": found.probes, "seed": seed, "matrices": len(named), **obj.protocol},
        fingerprint=obj.fingerprint,
    )


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.double().flatten(2).sum(2) if tensor.ndim > 2 else tensor.double()


def minimised(h: Tensor, w: Tensor) -> float:
    """Return min over a, b > 0 of Σ_ij h_ij a_i b_j + w_ij / (a_i b_j), h and w (m, n) ≥ 0.

    Convex in (log a, log b); each of a and b has a closed form given the other. Rows or columns where h or w vanish
    contribute their infimum 0.

    >>> minimised(torch.tensor([[4.0]]), torch.tensor([[9.0]]))
    12.0
    """
    rows, columns = (h.sum(1) > 0) & (w.sum(1) > 0), (h.sum(0) > 0) & (w.sum(0) > 0)
    h, w = h[rows][:, columns], w[rows][:, columns]
    if h.numel() == 0:
        return 0.0
    b = torch.ones(h.shape[1], dtype=h.dtype)
    last, tiny = float("inf"), torch.finfo(h.dtype).tiny
    for _ in range(ITERATIONS):
        a = ((w @ (1 / b)) / (h @ b).clamp_min(tiny)).sqrt().clamp_min(tiny)
        b = ((w.T @ (1 / a)) / (h.T @ a).clamp_min(tiny)).sqrt().clamp_min(tiny)
        now = float(a @ h @ b + (1 / a) @ w @ (1 / b))
        if last - now <= SETTLED * now:
            return now
        last = now
    return last
