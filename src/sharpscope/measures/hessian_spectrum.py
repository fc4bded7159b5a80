"""Measures of the Hessian's spectrum: λ_max, λ_min, the spectral norm, the Frobenius norm and the trace."""

from __future__ import annotations

from sharpscope.curvature import frobenius_norm, top_eigenvalues, trace
from sharpscope.curvature.eigenvalues import Which
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective

CURVATURE = "loss / parameter²"


@register(
    "lambda_max",
    title="Largest Hessian eigenvalue",
    symbol="λ_max",
    definition="The largest (algebraic) eigenvalue of the Hessian of the loss: curvature in the sharpest direction.",
    source="jastrzebski2018, kaur2022",
    unit=CURVATURE,
)
def lambda_max(obj: Objective, tol: float = 1e-3, max_products: int = 200, seed: int = 0) -> Estimate:
    """Return the largest (algebraic) Hessian eigenvalue; see `sharpscope.top_eigenvalues`."""
    return _extreme_eigenvalue("lambda_max", "largest", obj, tol, max_products, seed)


@register(
    "lambda_min",
    title="Smallest Hessian eigenvalue",
    symbol="λ_min",
    definition="The smallest (algebraic) Hessian eigenvalue; negative away from a minimum.",
    source="",
    unit=CURVATURE,
)
def lambda_min(obj: Objective, tol: float = 1e-3, max_products: int = 200, seed: int = 0) -> Estimate:
    """Return the smallest (algebraic) Hessian eigenvalue."""
    return _extreme_eigenvalue("lambda_min", "smallest", obj, tol, max_products, seed)


@register(
    "spectral_norm",
    title="Spectral norm of the Hessian",
    symbol="‖H‖₂",
    definition="The largest absolute eigenvalue of the Hessian.",
    source="jastrzebski2018",
    unit=CURVATURE,
)
def spectral_norm(obj: Objective, tol: float = 1e-3, max_products: int = 200, seed: int = 0) -> Estimate:
    """Return the largest |eigenvalue| of the Hessian."""
    return _extreme_eigenvalue("spectral_norm", "magnitude", obj, tol, max_products, seed)


register(
    "frobenius_norm",
    title="Frobenius norm of the Hessian",
    symbol="‖H‖_F",
    definition="Root of the sum of squared Hessian eigenvalues.",
    source="jastrzebski2018, figure 1b",
    unit=CURVATURE,
)(frobenius_norm)

register(
    "trace",
    title="Trace of the Hessian",
    symbol="tr H",
    definition="Sum of the Hessian eigenvalues: mean curvature times the number of parameters.",
    source="Hutchinson 1990",
    unit=CURVATURE,
)(trace)


def _extreme_eigenvalue(
    measure: str, which: Which, obj: Objective, tol: float, max_products: int, seed: int
) -> Estimate:
    cost = CostMeter(obj)
    e = top_eigenvalues(obj, 1, which, tol, seed, max_products=max_products)
    return Estimate(
        measure,
        abs(e.value) if which == "magnitude" else e.value,
        error=float(e.error_estimates[0]),
        converged=bool(e.converged[0]),
        cost=cost.total(),
        protocol={**e.protocol, "residual": float(e.residuals[0])},
        fingerprint=e.fingerprint,
    )
