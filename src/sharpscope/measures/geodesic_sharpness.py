"""Geodesic sharpness: the worst case in a ball that attention's GL(h) symmetries leave as it is.

In a head only the product G Hᵀ of query and key weights G (n, h), H (m, h) matters, and so of value and output.
The metric ⟨η, ζ⟩ = tr (GᵀG)⁻¹ η_Gᵀζ_G + tr (HᵀH)⁻¹ η_Hᵀζ_H does not change under (G, H) → (G A, H A^{-T}). Directions
orthogonal to the orbit are horizontal, and the ball is of horizontal vectors ξ, each followed along its geodesic. All
other weights have the metric δ²/w² of the adaptive ball, along straight lines.

A geodesic of the metric tr (GᵀG)⁻¹ ĠᵀĠ obeys G̈ = Ġ M⁻¹ (ĠᵀG + GᵀĠ) − G M⁻¹ ĠᵀĠ with M = GᵀG (the Euler–Lagrange
equation of its energy); for a single weight that is g exp(tη/g). To second order its end is G + η + ½ G̈. For
factors of the form G = U Σ^{1/2}, H = V Σ^{1/2}, from the singular values Σ of G Hᵀ, and η = u Σ^{1/2} that is
(U + u + ½ [u (uᵀU + Uᵀu) − U uᵀu]) Σ^{1/2}, and ‖ξ‖² is the sum of squares of u: no inverse is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import NonFiniteError, require_at_least, require_positive
from sharpscope.estimate import Estimate
from sharpscope.measures.invariance.attention import HeadPair, find_head_pairs
from sharpscope.measures.perturbation.ascent import Ascent
from sharpscope.measures.perturbation.ball import Ball
from sharpscope.measures.perturbation.over_batches import over_batches, rise
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of
from sharpscope.seeding import generator

RANK = 1e-7
"""Singular values of G Hᵀ below this share of the largest count as it: a direction of no size has no orbit."""


@register(
    "geodesic_sharpness",
    title="Geodesic sharpness",
    symbol="E max L_S(γ_ξ(1)) − L_S(θ)",
    definition="Expected largest rise of the loss over batches in a ball of the metric that attention's symmetries "
    "and rescalings leave unchanged, along geodesics.",
    source="da Silva et al. 2025",
    unit="loss",
    cost="50 batches of 64, 6 gradients each",
    rescaling_invariant=True,
)
def geodesic_sharpness(
    obj: Objective,
    radius: float = 0.1,
    batch_size: int | None = 64,
    restarts: int = 50,
    steps: int = 5,
    seed: int = 0,
    *,
    params: Selection = None,
    normalise_logits: bool = False,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Estimate:
    """Estimate E_S[ max_{ξ horizontal, ‖ξ‖ ≤ ρ} L_S(γ_ξ(1)) − L_S(θ) ] over batches S, ρ = ``radius``, no unit.

    γ_ξ is the geodesic from θ in direction ξ, to second order for attention's weights, to first order (a straight
    line) for all others; see the module's text. To first order everywhere, and without attention, it is the adaptive
    ℓ2 worst case of `sharpscope.worst_case_sharpness`, as the paper says. The maximum is a lower bound by ascent, as
    there. Which weights are attention's is found by `find_head_pairs` and tried on the model's loss.

    The paper was read in part, its code not: metric and symmetric directions are derived here from its definition,
    and the choice of the metric, of which it has two, is ours.

    Parameters
    ----------
    batch_size, restarts, steps, params, normalise_logits
        As for `sharpscope.worst_case_sharpness`.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`: what is returned early is the mean over fewer batches.

    Raises
    ------
    InputError
        For a radius that is not positive, counts below 1, or a batch larger than the data.

    """
    require_positive("radius", radius, "for example 0.1")
    require_at_least("steps", steps, 1, "5 are usual")
    obj, chosen = view_of(obj, params=params, normalise_logits=normalise_logits)
    share = 1.0 if batch_size is None else restarts * batch_size / obj.n_samples
    limits = CallLimits(
        "geodesic_sharpness", obj, deadline, progress, on_interrupt, unit="pass", expected=(steps + 1) * share
    )
    obj = limits.over
    pairs = find_head_pairs(obj)
    chart = QuotientChart.of(obj, pairs)
    ball = Ball(torch.ones_like(chart.theta), radius, "l2")

    def rises(parts: Iterable[Objective]) -> Iterator[float]:
        for restart, part in enumerate(parts):
            run = Ascent(steps, "steepest", None).run(
                ball, torch.zeros_like(chart.theta), generator("geodesic", seed, restart)
            )
            request = next(run)
            while True:
                try:
                    request = run.send(_respond(part, chart, *request))
                except StopIteration as end:
                    first, highest = end.value
                    break
            yield rise(first, highest)

    protocol = {"radius": radius, "steps": steps, "head_pairs": len(pairs), **chosen}
    return over_batches("geodesic_sharpness", obj, rises, batch_size, restarts, seed, protocol, limits)


def _respond(part: Objective, chart: QuotientChart, u: Tensor, with_gradient: bool) -> tuple[float, Tensor]:
    """Return the loss at the end of the geodesic and its gradient in u (size,)."""
    with torch.enable_grad():
        free = u.detach().requires_grad_()
        point = chart.end(free)
    if not with_gradient:
        return part.loss(point.detach()), torch.zeros_like(u)
    try:
        loss, gradient = part.loss_and_gradient(point.detach())
    except NonFiniteError:
        return math.inf, torch.zeros_like(u)
    (pulled,) = torch.autograd.grad(point, free, gradient)
    return loss, chart.horizontal(pulled)


@dataclass(frozen=True)
class _Group:
    """Pairs of one shape: where their entries lie in θ, (p, n, h) and (p, m, h); U, V of these shapes; Σ (p, h)."""

    first: Tensor
    second: Tensor
    u: Tensor
    v: Tensor
    sigma: Tensor


@dataclass(frozen=True)
class QuotientChart:
    """Coordinates u (size,) of tangent vectors at θ in which the metric is the identity.

    ``theta`` (size,) is the point with every pair brought to the form U Σ^{1/2}, V Σ^{1/2}: the same function.
    ``scale`` (size,) is |θ| where a weight is in no pair, else 0.
    """

    theta: Tensor
    scale: Tensor
    groups: tuple[_Group, ...]

    @classmethod
    def of(cls, obj: Objective, pairs: list[HeadPair]) -> QuotientChart:
        """Return the chart at an objective's point."""
        theta = obj.flat()
        places = obj.layout.split(torch.arange(obj.size, device=obj.device))
        shapes: dict[tuple[torch.Size, torch.Size], list[tuple[Tensor, Tensor]]] = {}
        for pair in pairs:
            first, second = pair.first.read(places), pair.second.read(places)
            shapes.setdefault((first.shape, second.shape), []).append((first, second))
        scale, groups = theta.abs(), []
        for members in shapes.values():
            first, second = (torch.stack([member[i] for member in members]) for i in range(2))
            (q1, r1), (q2, r2) = (torch.linalg.qr(theta[at].double()) for at in (first, second))
            left, sigma, right = torch.linalg.svd(r1 @ r2.transpose(1, 2))
            sigma = torch.maximum(sigma, RANK * sigma[:, :1]).clamp_min(torch.finfo(torch.float64).tiny)
            u, v = q1 @ left, q2 @ right.transpose(1, 2)
            root = sigma.sqrt()[:, None]
            theta[first], theta[second] = (u * root).to(theta), (v * root).to(theta)
            scale[first] = scale[second] = 0.0
            groups.append(_Group(first, second, *(t.to(theta) for t in (u, v, sigma))))
        return cls(theta, scale, tuple(groups))

    def end(self, u: Tensor) -> Tensor:
        """Return γ_ξ(1) (size,) for ξ with coordinates u (size,), the horizontal part of which counts."""
        u = self.horizontal(u)
        moved = self.theta + self.scale * u
        for group in self.groups:
            root = group.sigma.sqrt()[:, None]
            for at, frame in ((group.first, group.u), (group.second, group.v)):
                step = u[at]  # (p, n, h)
                across = step.transpose(1, 2)
                bent = step @ (across @ frame + frame.transpose(1, 2) @ step) - frame @ (across @ step)
                moved = moved.index_put((at,), (frame + step + bent / 2) * root)
        return moved

    def horizontal(self, u: Tensor) -> Tensor:
        """Return the part of u that is orthogonal to all orbits: to (U S, −V S^{-T}) for each entry of A."""
        for group in self.groups:
            first, second = u[group.first], u[group.second]
            root = group.sigma.sqrt()
            s = root[:, :, None] / root[:, None, :]  # (p, h, h): √(σ_i/σ_j)
            a = group.u.transpose(1, 2) @ first
            b = (group.v.transpose(1, 2) @ second).transpose(1, 2)
            t = (a * s - b / s) / (s.square() + 1 / s.square())
            u = u.index_put((group.first,), first - group.u @ (t * s))
            u = u.index_put((group.second,), second + group.v @ (t / s).transpose(1, 2))
        return u
