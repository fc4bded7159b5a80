"""Products of one chunk's curvature with a vector, from graphs that are built once and used again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.objective.parameters import Layout


class ChunkProduct(Protocol):
    """The curvature of one chunk's mean loss, as an operator that holds a graph."""

    @property
    def roots(self) -> Sequence[Tensor]:
        """The tensors whose graphs are held."""

    @property
    def leaves(self) -> Sequence[Tensor]:
        """The parameters that the graphs end in, in the layout's order."""

    @property
    def value(self) -> Tensor:
        """The chunk's mean loss, a scalar without a graph."""

    def __call__(self, vector: Tensor) -> Tensor:
        """Return the product with a flat vector (size,)."""


@dataclass
class HessianOfChunk:
    """∇²ℓ of a chunk from its gradient's graph: the derivative of (∇ℓ · v), by Pearlmutter's trick.

    ``first`` are the gradients with their graph and ``leaves`` the parameters, both in the layout's order.
    """

    first: list[Tensor]
    leaves: list[Tensor]
    layout: Layout
    value: Tensor

    @classmethod
    def of(cls, value: Tensor, leaves: list[Tensor], layout: Layout) -> HessianOfChunk:
        """Build the graph of a mean loss's gradient."""
        return cls(gradients(value, leaves, create_graph=True), leaves, layout, value.detach())

    @property
    def roots(self) -> Sequence[Tensor]:
        """The first-order gradients."""
        return self.first

    def __call__(self, vector: Tensor) -> Tensor:
        """Return ∇²ℓ v (size,)."""
        return _pulled_back(self.first, self.leaves, list(self.layout.split(vector).values()), self.layout)


@dataclass
class GaussNewtonOfChunk:
    """Jᵀ (∂²ℓ/∂f²) J of a chunk, f its outputs, J their Jacobian in the parameters (Schraudolph 2002, section 3).

    ``outputs`` carry their graph. ``dummy`` and ``pulled`` = Jᵀ dummy give J v as a derivative in the dummy.
    ``free`` are the outputs as leaves, ``slope`` = ∂ℓ/∂f there, with its graph.
    """

    outputs: Tensor
    dummy: Tensor
    pulled: list[Tensor]
    free: Tensor
    slope: Tensor
    leaves: list[Tensor]
    layout: Layout
    value: Tensor

    @classmethod
    def of(
        cls, outputs: Any, loss: Callable[[Tensor], Tensor], leaves: list[Tensor], layout: Layout
    ) -> GaussNewtonOfChunk:
        """Build the graphs from outputs with their graph and their mean loss; refuse outputs that are no tensor."""
        if not isinstance(outputs, Tensor):
            raise InputError(
                "the Gauss-Newton matrix needs a model that returns one tensor, received "
                f"{type(outputs).__name__}; wrap the model, or use matrix='hessian'"
            )
        dummy = torch.zeros_like(outputs, requires_grad=True)
        pulled = gradients(outputs, leaves, create_graph=True, weights=dummy)
        free = outputs.detach().requires_grad_()
        value = loss(free)
        (slope,) = torch.autograd.grad(value, free, create_graph=True)
        return cls(outputs, dummy, pulled, free, slope, leaves, layout, value.detach())

    @property
    def roots(self) -> Sequence[Tensor]:
        """The outputs, Jᵀ of the dummy, and the loss's slope."""
        return [self.outputs, *self.pulled, self.slope]

    def __call__(self, vector: Tensor) -> Tensor:
        """Return Jᵀ (∂²ℓ/∂f²) J v (size,)."""
        alive = [
            (p, v)
            for p, v in zip(self.pulled, self.layout.split(vector).values(), strict=True)
            if p.requires_grad
        ]
        if not alive or not self.slope.requires_grad:  # outputs without parameters, or a loss linear in them
            return torch.zeros_like(vector)
        pulled, weights = zip(*alive, strict=True)
        (forward,) = torch.autograd.grad(pulled, self.dummy, weights, retain_graph=True)
        (curved,) = torch.autograd.grad(self.slope, self.free, forward, retain_graph=True)
        return _pulled_back([self.outputs], self.leaves, [curved], self.layout)


def gradients(
    value: Tensor, leaves: list[Tensor], create_graph: bool = False, weights: Tensor | None = None
) -> list[Tensor]:
    """Return the gradients of Σ value · weights in the leaves, zeros for those it does not depend on."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(
            value, leaves, weights, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    )


def _pulled_back(
    outputs: list[Tensor], leaves: list[Tensor], weights: list[Tensor], layout: Layout
) -> Tensor:
    """Return the derivative of Σ outputs · weights in the leaves, flat; outputs without a graph count as constant."""
    alive = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    if not alive:  # the loss is linear in every measured parameter
        return torch.zeros(layout.size, dtype=leaves[0].dtype, device=leaves[0].device)
    roots, slopes = zip(*alive, strict=True)
    return layout.join(torch.autograd.grad(roots, leaves, slopes, retain_graph=True, materialize_grads=True))
