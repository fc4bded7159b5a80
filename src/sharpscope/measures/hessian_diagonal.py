"""The diagonal of the Hessian by random probes, and the measures that are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpscope import curvature
from sharpscope.curvature.operators import CurvatureProducts, Matrix
from sharpscope.errors import require_at_least
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.preconditioned import scaled
from sharpscope.objective.views import view_of
from sharpscope.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

GROUPS = 8
"""Groups of probes whose means the standard errors are made of; more would need more memory, one vector for each."""


@dataclass(frozen=True)
class HessianDiagonal:
    """Estimates of all diagonal entries of a curvature matrix.

    ``values`` and ``stderr`` (size,) are in the layout's order, in units of loss / parameter²; ``groups``
    (groups, size) the independent means behind them.
    """

    values: Tensor
    stderr: Tensor
    groups: Tensor = field(repr=False)
    probes: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    cost: Mapping[str, float] = field(default_factory=dict)

    def by_layer(self) -> pd.DataFrame:
        """Return one row per parameter: name, entries, mean of its diagonal and that mean's standard error."""
        import pandas as pd

        rows = []
        for name, part in zip(self.names, self.groups.double().split(self.sizes, dim=1), strict=True):
            means = part.mean(1)  # (groups,)
            error = float(means.std()) / len(means) ** 0.5
            rows.append(
                {"parameter": name, "entries": part.shape[1], "mean": float(means.mean()), "stderr": error}
            )
        return pd.DataFrame(rows)


def hessian_diagonal(
    obj: Objective,
    samples: int = 32,
    *,
    scale: Tensor | None = None,
    matrix: Matrix = "hessian",
    seed: int = 0,
) -> HessianDiagonal:
    """Estimate diag ∇²L(θ) as the mean of z ⊙ Hz over Rademacher probes z (Bekas, Kokiopoulou & Saad 2007).

    With ``scale`` s > 0 (size,) it is the mean of z ⊙ (S H S z), divided by s²: the noise of an entry, which comes
    from its row's other entries, is then measured in units of s, and follows function-preserving rescalings for
    s = |θ|.

    Raises `InputError` for fewer than 8 samples or a number that 8 does not divide.
    """
    require_at_least("samples", samples, GROUPS, f"the standard errors need {GROUPS} groups")
    samples = GROUPS * (samples // GROUPS)
    cost = CostMeter(obj)
    view = obj if scale is None else scaled(obj, scale)
    sums = torch.zeros(GROUPS, obj.size, dtype=obj.dtype, device=obj.device)
    with CurvatureProducts(view, None, matrix) as product:
        for index in range(0, samples, GROUPS):
            z = torch.stack([_signs(obj, seed, index + i) for i in range(GROUPS)])  # (groups, size)
            sums += z * product(z)
    groups = sums * (GROUPS / samples)
    if scale is not None:
        groups = groups / scale.to(groups).square()
    return HessianDiagonal(
        groups.mean(0),
        groups.std(0) / GROUPS**0.5,
        groups,
        samples,
        obj.layout.names,
        obj.layout.sizes,
        cost.total(),
    )


def _signs(obj: Objective, seed: int, index: int) -> Tensor:
    bits = torch.randint(0, 2, (obj.size,), generator=generator("diagonal", seed, index), dtype=torch.int8)
    return (2 * bits - 1).to(obj.device, obj.dtype)


@register(
    "hessian_diagonal",
    title="Norm of the Hessian's diagonal",
    symbol="‖diag H‖₂",
    definition="Root of the sum of squared diagonal entries of the Hessian; the protocol has every layer's mean.",
    source="Bekas et al. 2007",
    unit="loss / parameter²",
    cost="32 products",
)
def hessian_diagonal_norm(
    obj: Objective,
    samples: int = 32,
    matrix: Matrix = "hessian",
    seed: int = 0,
    *,
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Return ‖diag ∇²L‖₂ without bias: the square is the mean of products of independent groups of probes.

    The standard error is a jackknife over eight groups. `hessian_diagonal` gives the entries themselves. ``params``,
    ``preconditioner`` and ``normalise_logits``: see `sharpscope.objective.views.view_of`.
    """
    obj, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    found = hessian_diagonal(obj, samples, matrix=matrix, seed=seed)
    gram = found.groups.double() @ found.groups.double().T  # (groups, groups)
    whole = _pairs_mean(gram)
    keep = [[j for j in range(GROUPS) if j != i] for i in range(GROUPS)]
    leave_one_out = torch.stack([_pairs_mean(gram[rest][:, rest]) for rest in keep])
    variance = (GROUPS - 1) * (leave_one_out - leave_one_out.mean()).square().mean()
    value = float(whole.clamp_min(0).sqrt())
    layers = found.by_layer()
    return Estimate(
        "hessian_diagonal",
        value,
        stderr=float(variance.sqrt()) / (2 * value) if value else 0.0,
        samples=GROUPS,
        cost=found.cost,
        protocol={
            "samples": found.probes,
            "matrix": matrix,
            "seed": seed,
            "mean_by_layer": dict(zip(layers["parameter"], layers["mean"], strict=True)),
            **chosen,
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )


def _pairs_mean(gram: Tensor) -> Tensor:
    n = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))


@register(
    "adaptive_trace",
    title="Trace of the Hessian in units of the weights",
    symbol="Σ w² H_ww",
    definition="Sum over the weights of the squared weight times its diagonal entry of the Hessian.",
    source="Kwon et al. 2021; Jang et al. 2022",
    unit="loss",
    cost="16 to 400 products",
    rescaling_invariant=True,
)
def adaptive_trace(
    obj: Objective,
    *,
    rtol: float = 0.05,
    samples: int | None = None,
    max_samples: int = 400,
    deflate: int | None = None,
    matrix: Matrix = "hessian",
    seed: int = 0,
    params: Selection = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Estimate Σ_i θ_i² H_ii = tr(D H D), D = diag|θ|: the trace in the metric of the adaptive ball.

    Twice the average rise at relative perturbations of size one, to second order. Options and stopping as for
    `sharpscope.trace`, of which it is the value in the coordinates θ / |θ|; ``params`` and ``normalise_logits``: see
    `sharpscope.objective.views.view_of`.
    """
    obj, chosen = view_of(obj, params=params, normalise_logits=normalise_logits)
    view = scaled(obj, obj.flat().abs())
    e = curvature.trace(
        view, rtol=rtol, samples=samples, max_samples=max_samples, deflate=deflate, matrix=matrix, seed=seed
    )
    return Estimate(
        "adaptive_trace",
        e.value,
        stderr=e.stderr,
        samples=e.samples,
        converged=e.converged,
        cost=e.cost,
        protocol={**e.protocol, **chosen},
        fingerprint=obj.fingerprint,
    )
