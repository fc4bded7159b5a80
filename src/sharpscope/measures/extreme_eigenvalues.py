"""The Hessian's extreme eigenvalues as measures: λ_max, λ_min and the spectral norm."""

from __future__ import annotations

from copy import copy

from sharpscope.curvature import top_eigenvalues
from sharpscope.curvature.eigenvalues import Which
from sharpscope.estimate import Estimate
from sharpscope.objective.objective import Objective


def lambda_max(obj: Objective, tol: float = 1e-3, max_products: int = 200, seed: int = 0) -> Estimate:
    """Return the largest (algebraic) Hessian eigenvalue; see `sharpscope.top_eigenvalues`."""
    return _outermost("lambda_max", "largest", obj, tol, max_products, seed)


def lambda_min(obj: Objective, tol: float = 1e-3, max_products: int = 200, seed: int = 0) -> Estimate:
    """Return the smallest (algebraic) Hessian eigenvalue."""
    return _outermost("lambda_min", "smallest", obj, tol, max_products, seed)


def spectral_norm(obj: Objective, tol: float = 1e-3, max_products: int = 200, seed: int = 0) -> Estimate:
    """Return the largest |eigenvalue| of the Hessian."""
    return _outermost("spectral_norm", "magnitude", obj, tol, max_products, seed)


def _outermost(
    measure: str, which: Which, obj: Objective, tol: float, max_products: int, seed: int
) -> Estimate:
    before = copy(obj.spent)
    e = top_eigenvalues(obj, 1, which, tol, seed, max_products=max_products)
    return Estimate(
        measure,
        abs(e.value) if which == "magnitude" else e.value,
        error=float(e.error_estimates[0]),
        converged=bool(e.converged[0]),
        cost={**obj.spent.since(before), "seconds": e.seconds},
        protocol={**e.protocol, "residual": float(e.residuals[0])},
        fingerprint=e.fingerprint,
    )
