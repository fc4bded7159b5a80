"""Effective dimension: how many directions of the parameters the data determines."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sharpscope.curvature import spectral_density
from sharpscope.curvature.operators import Matrix
from sharpscope.errors import require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of


@register(
    "effective_dimension",
    title="Effective dimension",
    symbol="Σ λ/(λ+z)",
    definition="Sum over the Hessian's eigenvalues of λ/(λ+z), negative ones counted as 0: directions curved by more "
    "than z.",
    source="MacKay 1992; Maddox et al. 2020",
    unit="parameters",
    cost="64 products",
)
def effective_dimension(
    obj: Objective,
    z: float = 1.0,
    probes: int = 4,
    steps: int = 16,
    matrix: Matrix = "hessian",
    seed: int = 0,
    *,
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Estimate N_eff = Σ_i λ_i / (λ_i + z) from the spectral density, z in units of loss / parameter².

    Each probe's Lanczos quadrature of ``steps`` steps gives size · Σ_k w_k λ_k / (λ_k + z), a negative λ_k counted as
    0; the standard error is over probes. Maddox et al. use the Hessian of the summed loss with z = 1/prior variance;
    for the mean loss here divide their z by the number of samples. ``params``, ``preconditioner`` and
    ``normalise_logits``: see `sharpscope.objective.views.view_of`. Raises `InputError` for a z that is not positive,
    or fewer than 2 probes or steps.
    """
    require_positive("z", z, "for example 1.0")
    obj, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    cost = CostMeter(obj)
    density = spectral_density(obj, probes=probes, steps=steps, matrix=matrix, seed=seed)
    nodes = np.maximum(density.nodes, 0.0)
    each = obj.size * (density.weights * nodes / (nodes + z)).sum(1)  # (probes,)
    return Estimate.of_samples(
        "effective_dimension",
        each.tolist(),
        cost.total(),
        {"z": z, **density.protocol, **chosen},
        obj.fingerprint,
    )
