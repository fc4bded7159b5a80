"""The one-step approximation of worst-case sharpness that sharpness-aware minimisation uses in training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import get_args

import torch

from sharpscope.errors import require_one_of, require_positive
from sharpscope.estimate import Estimate
from sharpscope.measures.perturbation.ball import Ball, Norm
from sharpscope.measures.perturbation.over_batches import over_batches
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective


@register(
    "sam_step",
    title="One-step worst-case sharpness",
    symbol="L(θ+ρg/‖g‖) − L(θ)",
    definition="Rise of the loss after one normalised gradient step of length ρ, the step that SAM takes.",
    source="Foret et al. 2021, equation 2",
    unit="loss",
    cost="1 loss, 1 gradient",
)
def sam_step_sharpness(
    obj: Objective,
    radius: float = 0.05,
    norm: Norm = "l2",
    adaptive: bool = False,
    batch_size: int | None = None,
    restarts: int = 50,
    seed: int = 0,
) -> Estimate:
    """Return L(θ + δ) − L(θ) for δ = ρ c² ⊙ g / ‖c ⊙ g‖₂, the first-order worst case, ρ = ``radius``.

    g = ∇L(θ); c = 1 is SAM (Foret et al. 2021, equation 2), c = |θ| ASAM without its stabiliser (Kwon et al.
    2021). In ℓ∞, δ = ρ c ⊙ sign(g). It costs one gradient and one loss and has the unit of the loss. It is a lower
    bound of the worst case in the same ball, exact on linear losses, and negative where the step overshoots.

    With ``batch_size`` m it is m-sharpness: the mean over ``restarts`` batches of m samples, each with its own
    gradient. The batches are those of `worst_case_sharpness`.

    Raises
    ------
    InputError
        For a radius that is not positive and finite, an unknown norm, or a batch size out of range.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[3.0, -4.0]], dtype=torch.float64)
    >>> obj = Objective(model, lambda outputs, targets: outputs.mean(), (x, x[:, :1]))
    >>> round(sam_step_sharpness(obj, radius=0.1).value, 6)
    0.5

    """
    require_positive("radius", radius, "SAM's usual is 0.05")
    require_one_of("norm", norm, get_args(Norm))
    centre = obj.flat()
    ball = Ball(centre.abs() if adaptive else torch.ones_like(centre), radius, norm)

    def rises(parts: Iterable[Objective]) -> Iterator[float]:
        for part in parts:
            base, gradient = part.loss_and_gradient()
            yield part.loss(centre + radius * ball.steepest(gradient)) - base

    protocol = {"radius": radius, "norm": norm, "adaptive": adaptive}
    return over_batches("sam_step", obj, rises, batch_size, restarts, seed, protocol)
