"""The largest λ_max on the way to a declared next iterate: kaur2022's rule for networks with batch normalisation."""

from __future__ import annotations

import torch

from sharpscope.curvature import between_iterates
from sharpscope.errors import require_at_least, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


@register(
    "lambda_max_between_iterates",
    title="Largest Hessian eigenvalue between iterates",
    symbol="max λ_max",
    definition="The largest λ_max at evenly spaced points between the weights and one further SGD step, the rule for "
    "networks with batch normalisation.",
    source="kaur2022, section 5",
    unit="loss / parameter²",
    cost="as 8 λ_max, each started from the last",
)
def lambda_max_between_iterates(
    obj: Objective,
    step_size: float = 0.05,
    batch_size: int | None = 100,
    points: int = 8,
    tol: float = 1e-3,
    seed: int = 0,
) -> Estimate:
    """Return max over α of λ_max(∇²L((1 − α) θ + α θ′)) at ``points`` evenly spaced α in [0, 1], both ends included.

    θ′ = θ − η ∇L_B(θ) is one further step of SGD with η = ``step_size``. B is a batch of ``batch_size`` samples of
    the objective's own data drawn from ``seed``; all the data where ``batch_size`` is None or larger than the data.
    Its loss is evaluated in the objective's own mode. With batch normalisation λ_max at an iterate and between two
    can differ by orders of magnitude (kaur2022, section 5). The unit is loss / parameter².

    Raises
    ------
    InputError
        For a step size that is not positive and finite, a batch size below 1 or fewer than 2 points.

    Examples
    --------
    On a quadratic the curvature is the same all along, here 3:

    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> round(lambda_max_between_iterates(obj, points=3).value, 6)
    3.0

    """
    require_positive("step_size", step_size, "pass the training rate")
    if batch_size is not None:
        require_at_least("batch_size", batch_size, 1, "pass the training batch size")
    cost, part = CostMeter(obj), obj
    if batch_size is not None and batch_size < obj.n_samples:
        order = torch.randperm(int(obj.n_samples), generator=generator("next step", seed))
        part = obj.subset(order[:batch_size])
        cost.include(part, batch_size / obj.n_samples)
    found = between_iterates(obj, obj.flat() - step_size * part.gradient(), points, tol=tol, seed=seed)
    top = int(found.values.argmax())
    return Estimate(
        "lambda_max_between_iterates",
        found.value,
        error=float(found.errors[top]),
        converged=bool(found.converged.all()),
        cost=cost.total(),
        protocol={
            **found.protocol,
            "step_size": step_size,
            "batch_size": batch_size,
            "position": float(found.positions[top]),
        },
        fingerprint=found.fingerprint,
    )
