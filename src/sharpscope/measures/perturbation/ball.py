"""The balls that worst-case perturbations stay in: {δ : ‖δ ⊘ c‖ ≤ ρ}, ℓ2 or ℓ∞, c = 1 or the weights' magnitudes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sharpscope.autograd.vectors import drawn_like

Norm = Literal["linf", "l2"]


@dataclass(frozen=True)
class Ball:
    """{δ : ‖δ ⊘ c‖ ≤ ρ} with c ≥ 0, ``scale`` (size,). A coordinate with c = 0 cannot move."""

    scale: Tensor
    radius: float
    norm: Norm

    def project(self, delta: Tensor) -> Tensor:
        """Return δ brought into the ball; see `project`."""
        return project(delta, self.scale, self.radius, self.norm)

    def steepest(self, gradient: Tensor) -> Tensor:
        """Return the δ with ‖δ ⊘ c‖ = 1 of largest ⟨gradient, δ⟩; zero where the gradient vanishes.

        ℓ∞: c ⊙ sign(g). ℓ2: c² ⊙ g / ‖c ⊙ g‖.
        """
        if self.norm == "linf":
            return self.scale * gradient.sign()
        slope = self.scale * gradient  # the gradient in the coordinates δ ⊘ c
        size = torch.linalg.vector_norm(slope, dtype=torch.float64)
        if float(size) == 0:
            return torch.zeros_like(slope)
        direction: Tensor = self.scale * (slope / size.to(slope.dtype))
        return direction

    def random(self, generator: torch.Generator) -> Tensor:
        """Return a random point of the ball.

        Uniform in ℓ∞. In ℓ2 uniform on the sphere ‖δ ⊘ c‖ = ρ, to which almost all of a ball in high dimensions is
        close; coordinates with c = 0 are then set to 0.
        """
        like = self.scale
        if self.norm == "linf":
            unit = 2 * drawn_like(like, lambda n: torch.rand(n, generator=generator)) - 1
        else:
            unit = drawn_like(like, lambda n: torch.randn(n, generator=generator))
            unit = unit / torch.linalg.vector_norm(unit, dtype=torch.float64)
        return self.project(self.radius * self.scale * unit.to(like.device, like.dtype))


def project(delta: Tensor, scale: Tensor, radius: float, norm: Norm) -> Tensor:
    """Return δ brought into {‖δ ⊘ c‖ ≤ ρ}, c ≥ 0; coordinates with c = 0 become 0.

    ℓ∞ clamps every coordinate to ±ρ c; ℓ2 shortens δ ⊘ c to length ρ.

    >>> project(torch.tensor([3.0, -3.0, 1.0]), torch.tensor([1.0, 2.0, 0.0]), 1.0, "linf")
    tensor([ 1., -2.,  0.])
    >>> project(torch.tensor([3.0, 4.0]), torch.ones(2), 1.0, "l2")
    tensor([0.6000, 0.8000])
    """
    bound: Tensor = radius * scale
    if norm == "linf":
        return delta.clamp(-bound, bound)
    unit: Tensor = torch.where(scale > 0, delta / scale, torch.zeros_like(delta))
    length = float(torch.linalg.vector_norm(unit, dtype=torch.float64))
    shorten = min(1.0, radius / length) if length > 0 else 1.0
    shortened: Tensor = unit * scale * shorten
    return shortened
