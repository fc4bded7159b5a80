"""Both sides of kaur2022's quadratic bound on worst-case sharpness."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sharpscope.curvature import top_eigenvalues
from sharpscope.errors import require_at_least, require_positive
from sharpscope.estimate import CostMeter, Estimate, Result, with_error
from sharpscope.measures.registry import register
from sharpscope.measures.worst_case import worst_case_sharpness
from sharpscope.objective.objective import Objective


@dataclass(frozen=True)
class QuadraticBound(Result):
    """max_{‖ε‖₂ ≤ ρ} L(θ + ε) against L(θ) + ρ‖∇L‖ + ρ² max(λ_max, 0) / 2.

    ``reached`` is the largest loss found by ascent, a lower bound of the maximum. ``bound`` is the right side and
    ``error`` its error, which follows from the error estimate of λ_max. The bound holds for every quadratic L; where
    ``reached`` exceeds it, the loss is not quadratic within the radius. Without ascent steps ``reached`` is the loss
    itself.
    """

    radius: float
    loss: float
    gradient_norm: float
    lambda_max: float
    reached: float
    bound: float
    converged: bool
    error: float = 0.0
    cost: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return one line: the loss reached and the bound."""
        sign = "≤" if self.holds else ">"
        bound = with_error(self.bound, self.error)
        return f"loss reached {self.reached:.5g} {sign} bound {bound} at radius {self.radius:g}"

    @property
    def holds(self) -> bool:
        """Whether the loss found by ascent stays within the bound."""
        return self.reached <= self.bound * (1 + 1e-6)


def quadratic_bound(
    obj: Objective,
    radius: float = 0.05,
    *,
    steps: int = 20,
    tol: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
) -> QuadraticBound:
    """Return both sides of the bound in kaur2022's appendix at a model's parameters.

    The left side is `worst_case_sharpness` over all the data with the plain ℓ2 ball and ``steps`` ascent steps; with
    0 steps it is left out. λ_max comes from `top_eigenvalues`. Raises `InputError` for a radius that is not positive
    and finite or negative ``steps``.
    """
    require_positive("radius", radius, "for example 0.05")
    require_at_least("steps", steps, 0, "20 are usually enough, 0 leaves the ascent out")
    cost = CostMeter(obj)
    rise, finite = 0.0, True
    if steps:
        worst = worst_case_sharpness(obj, radius, "l2", False, batch_size=None, steps=steps, seed=seed)
        rise, finite = worst.value, worst.converged
    loss, gradient = obj.loss_and_gradient()
    e = top_eigenvalues(obj, tol=tol, seed=seed, max_products=max_products)
    slope = float(gradient.double().norm())
    return QuadraticBound(
        radius,
        loss,
        slope,
        e.value,
        reached=loss + rise,
        bound=loss + radius * slope + radius**2 * max(e.value, 0.0) / 2,
        converged=bool(e.converged[0]) and finite,
        error=radius**2 * float(e.error_estimates[0]) / 2,
        cost=cost.total(),
    )


@register(
    "quadratic_bound",
    title="Quadratic bound on the worst-case rise",
    symbol="ρ‖∇L‖ + ρ²λ_max/2",
    definition="The most that the loss may rise within ρ if it is quadratic; its protocol has the rise found.",
    source="kaur2022, appendix",
    unit="loss",
    cost="21 gradients, 1 λ_max",
)
def quadratic_bound_on_the_rise(
    obj: Objective,
    radius: float = 0.05,
    steps: int = 20,
    tol: float = 1e-3,
    max_products: int = 200,
    seed: int = 0,
) -> Estimate:
    """Return ρ‖∇L‖ + ρ² max(λ_max, 0) / 2, the most that L may rise within ρ if it is quadratic.

    The protocol holds the rise that ascent ``reached`` in the same ball, unless ``steps`` is 0. See
    `quadratic_bound`.
    """
    both = quadratic_bound(obj, radius, steps=steps, tol=tol, max_products=max_products, seed=seed)
    return Estimate(
        "quadratic_bound",
        both.bound - both.loss,
        error=both.error,
        converged=both.converged,
        cost=both.cost,
        protocol={
            "radius": radius,
            "steps": steps,
            "tol": tol,
            "seed": seed,
            "gradient_norm": both.gradient_norm,
            "lambda_max": both.lambda_max,
            **({"reached": both.reached - both.loss, "holds": both.holds} if steps else {}),
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )
