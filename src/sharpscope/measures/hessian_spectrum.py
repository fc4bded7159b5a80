"""Measures of the Hessian's spectrum: λ_max, λ_min, the spectral norm, the Frobenius norm and the trace.

All take the same options for what is measured: ``matrix`` is ``"hessian"`` or ``"ggn"``, the generalised Gauss-Newton
matrix; ``params``, ``preconditioner`` and ``normalise_logits`` are those of `sharpscope.objective.views.view_of`.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from sharpscope import curvature
from sharpscope.curvature.operators import Matrix, Memory
from sharpscope.curvature.wanted import Which
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of

CURVATURE = "loss / parameter²"
SEARCH = "about 3 to 20 products"
PROBES = "16 to 400 products"


@register(
    "lambda_max",
    title="Largest Hessian eigenvalue",
    symbol="λ_max",
    definition="The largest (algebraic) eigenvalue of the Hessian of the loss: curvature in the sharpest direction.",
    source="jastrzebski2018, kaur2022",
    unit=CURVATURE,
    cost=SEARCH,
)
def lambda_max(
    obj: Objective,
    tol: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
    *,
    matrix: Matrix = "hessian",
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Return the largest (algebraic) Hessian eigenvalue; see `sharpscope.top_eigenvalues`.

    Examples
    --------
    >>> import torch
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> round(lambda_max(obj).value, 6), round(lambda_max(obj, preconditioner=torch.tensor([0.1, 1.0])).value, 6)
    (3.0, 10.0)

    """
    view, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    return _extreme_eigenvalue("lambda_max", "largest", view, tol, max_products, seed, matrix, chosen)


@register(
    "lambda_min",
    title="Smallest Hessian eigenvalue",
    symbol="λ_min",
    definition="The smallest (algebraic) Hessian eigenvalue; negative away from a minimum.",
    source="",
    unit=CURVATURE,
    cost=SEARCH,
)
def lambda_min(
    obj: Objective,
    tol: float = 1e-2,
    max_products: int = 200,
    seed: int = 0,
    *,
    matrix: Matrix = "hessian",
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Return the smallest (algebraic) Hessian eigenvalue, to a hundredth: that end is dense and takes long."""
    view, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    return _extreme_eigenvalue("lambda_min", "smallest", view, tol, max_products, seed, matrix, chosen)


@register(
    "spectral_norm",
    title="Spectral norm of the Hessian",
    symbol="‖H‖₂",
    definition="The largest absolute eigenvalue of the Hessian.",
    source="jastrzebski2018",
    unit=CURVATURE,
    cost=SEARCH,
)
def spectral_norm(
    obj: Objective,
    tol: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
    *,
    matrix: Matrix = "hessian",
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Return the largest |eigenvalue| of the Hessian."""
    view, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    return _extreme_eigenvalue("spectral_norm", "magnitude", view, tol, max_products, seed, matrix, chosen)


@register(
    "frobenius_norm",
    title="Frobenius norm of the Hessian",
    symbol="‖H‖_F",
    definition="Root of the sum of squared Hessian eigenvalues.",
    source="jastrzebski2018, figure 1b",
    unit=CURVATURE,
    cost=PROBES,
)
def frobenius_norm(
    obj: Objective,
    *,
    rtol: float = 0.05,
    samples: int | None = None,
    max_samples: int = 400,
    deflate: int | None = None,
    memory: Memory = None,
    matrix: Matrix = "hessian",
    seed: int = 0,
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Estimate ‖∇²L(θ)‖_F; see `sharpscope.frobenius_norm`."""
    view, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    e = curvature.frobenius_norm(
        view, rtol=rtol, samples=samples, max_samples=max_samples, deflate=deflate, memory=memory,
        matrix=matrix, seed=seed,
    )  # fmt: skip
    return replace(e, protocol={**e.protocol, **chosen})


@register(
    "trace",
    title="Trace of the Hessian",
    symbol="tr H",
    definition="Sum of the Hessian eigenvalues: mean curvature times the number of parameters.",
    source="Hutchinson 1990",
    unit=CURVATURE,
    cost=PROBES,
)
def trace(
    obj: Objective,
    *,
    rtol: float = 0.05,
    samples: int | None = None,
    max_samples: int = 400,
    deflate: int | None = None,
    memory: Memory = None,
    matrix: Matrix = "hessian",
    seed: int = 0,
    params: Selection = None,
    preconditioner: Tensor | None = None,
    normalise_logits: bool = False,
) -> Estimate:
    """Estimate tr ∇²L(θ); see `sharpscope.trace`."""
    view, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    e = curvature.trace(
        view, rtol=rtol, samples=samples, max_samples=max_samples, deflate=deflate, memory=memory,
        matrix=matrix, seed=seed,
    )  # fmt: skip
    return replace(e, protocol={**e.protocol, **chosen})


def _extreme_eigenvalue(
    measure: str,
    which: Which,
    view: Objective,
    tol: float,
    max_products: int,
    seed: int,
    matrix: Matrix,
    chosen: dict[str, object],
) -> Estimate:
    cost = CostMeter(view)
    e = curvature.top_eigenvalues(view, 1, which, tol, seed, max_products=max_products, matrix=matrix)
    return Estimate(
        measure,
        abs(e.value) if which == "magnitude" else e.value,
        error=float(e.error_estimates[0]),
        converged=bool(e.converged[0]),
        cost=cost.total(),
        protocol={**e.protocol, "residual": float(e.residuals[0]), **chosen},
        fingerprint=e.fingerprint,
    )
