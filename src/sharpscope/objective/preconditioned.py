"""An objective in the coordinates of a diagonal preconditioner, in which its Hessian is P^{-1/2} H P^{-1/2}.

Preconditioned optimizers (Adam, RMSprop, Adagrad) step by P^{-1} ∇L. In the coordinates u = P^{1/2} θ that is a plain
gradient step, so the curvature that their steps respond to is the Hessian in u (Cohen et al. 2022).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from copy import copy
from typing import Self

import torch
from torch import Tensor, nn

from sharpscope.errors import InputError
from sharpscope.objective.batches import update_with_tensor
from sharpscope.objective.evaluator import Evaluator
from sharpscope.objective.graphs import ChunkProduct
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Layout


def preconditioned(obj: Objective, preconditioner: Tensor) -> Objective:
    """Return L̃(u) = L(P^{-1/2} u): the objective in the coordinates u = P^{1/2} θ, P = diag(``preconditioner``).

    Its gradient is P^{-1/2} ∇L and its Hessian P^{-1/2} H P^{-1/2}, so that `sharpscope.top_eigenvalues` and every
    other curvature measure of it are preconditioned ones. It measures the same point of the same model, shares the
    count of evaluations, and has the same fingerprint.

    Parameters
    ----------
    preconditioner
        P's diagonal (size,), positive, in the layout's order: for Adam (√v̂ + ε)(1 − β₁ᵗ).

    Raises
    ------
    InputError
        For another number of entries, or entries that are not positive and finite.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> preconditioned(obj, torch.tensor([0.1, 3.0])).hvp(torch.tensor([1.0, 1.0])).round(decimals=4)
    tensor([10.,  1.], dtype=torch.float64)

    """
    diagonal = preconditioner.detach().to(obj.device)
    if diagonal.shape != (obj.size,):
        raise InputError(
            f"preconditioner must have one entry for each of the {obj.size} measured parameters, received the shape "
            f"{tuple(diagonal.shape)}; join its tensors with obj.layout.join in the layout's order"
        )
    if not bool((torch.isfinite(diagonal) & (diagonal > 0)).all()):
        raise InputError(
            "preconditioner must be positive and finite, received entries that are not; add the optimizer's ε, and "
            "leave parameters without a state out with params="
        )
    return scaled(obj, diagonal.double().rsqrt())


def scaled(obj: Objective, scale: Tensor) -> Objective:
    """Return L̃(u) = L(s ⊙ u), s = ``scale`` (size,) ≥ 0: its Hessian is diag(s) H diag(s), see `preconditioned`.

    A coordinate with s = 0 is fixed at its present value; its u is 0.
    """
    view = copy(obj)
    view.evaluator = PreconditionedEvaluator.of(obj.evaluator, scale)
    return view


def preconditioner_digest(preconditioner: Tensor) -> str:
    """Return 16 hex digits that identify a preconditioner in a protocol."""
    digest = hashlib.sha256()
    update_with_tensor(digest, preconditioner.detach())
    return digest.hexdigest()[:16]


class PreconditionedEvaluator(Evaluator):
    """An evaluator whose flat vectors are u = θ / s, s = P^{-1/2} (size,); leaves and ``centre`` remain θ."""

    scale: Tensor

    @classmethod
    def of(cls, evaluator: Evaluator, scale: Tensor) -> PreconditionedEvaluator:
        """Return the evaluator in the coordinates u = θ / s, s = ``scale`` (size,)."""
        self = cls.__new__(cls)
        self.__dict__.update(evaluator.__dict__)
        self.scale = scale.to(evaluator.device, evaluator.dtype)
        return self

    def flat(self) -> Tensor:
        """Return u at the point measured at (size,)."""
        theta = super().flat()
        return torch.where(self.scale > 0, theta / self.scale, torch.zeros_like(theta))

    def leaves(self, at: Tensor | None = None, grad: bool = True) -> dict[str, Tensor]:
        """Return the parameters θ by name as leaves, at the point measured at or at u = ``at`` (size,)."""
        return super().leaves(None if at is None else self._theta(at), grad)

    def at(self, point: Tensor) -> Self:
        """Return this evaluator at another point u (size,)."""
        return super().at(self._theta(point))

    def with_model(self, model: nn.Module, dtype: torch.dtype) -> Self:
        """Return the same evaluator of another model with the same parameters."""
        other = super().with_model(model, dtype)
        other.scale = self.scale.to(dtype)
        return other

    def in_precision(self, dtype: torch.dtype) -> Self:
        """Return this evaluator at the same point, computed in another precision."""
        other = super().in_precision(dtype)
        other.scale = self.scale.to(dtype)
        return other

    def with_layout(self, layout: Layout) -> Self:
        """Refuse: a preconditioner belongs to the parameters it was given for."""
        raise InputError(
            "a preconditioner belongs to its parameters; choose params= first, then precondition"
        )

    def value_and_gradient(self, at: Tensor | None = None) -> tuple[float, Tensor]:
        """Return L and its gradient in u, P^{-1/2} ∇L (size,)."""
        value, gradient = super().value_and_gradient(at)
        return value, gradient * self.scale

    def multiply(self, graphs: Iterable[tuple[ChunkProduct, float]], v: Tensor) -> Tensor:
        """Return products with P^{-1/2} A P^{-1/2} for a vector (size,) or a block (k, size)."""
        return super().multiply(graphs, v.to(self.device, self.dtype) * self.scale) * self.scale

    def _theta(self, u: Tensor) -> Tensor:
        moved = u.detach().to(self.device, self.dtype) * self.scale
        return torch.where(self.scale > 0, moved, super().flat())
