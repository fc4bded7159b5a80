"""A low-rank (secant) update: the difference between two operators, as seen in one search and used in the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm

DEPENDENT = 0.3
"""An older direction is dropped where less than this share of it lies outside the newer ones."""


@dataclass(frozen=True)
class SecantUpdate:
    """The symmetric E of least Frobenius norm with E V = (A − B) V (Powell 1970), B over a subset.

    The same samples are drawn at every checkpoint, and how they differ from all of them changes slowly, so at a later
    checkpoint B + E is nearer to A than B is.

    Attributes
    ----------
    basis
        Orthonormal rows V (m, n) that were multiplied by both.
    images
        Their images under A − B (m, n).

    """

    basis: Tensor
    images: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return E v for a vector (n,) or for each row of a block (b, n): D Vᵀ + V Dᵀ − V (VᵀD) Vᵀ, D the images."""
        within, across = (dot(vectors, rows).to(vectors.dtype) for rows in (self.basis, self.images))
        small = dot(self.basis, self.images).to(vectors.dtype)
        return within @ self.images + (across - within @ (0.5 * (small + small.T))) @ self.basis

    def reduces_residual(self, basis: Tensor, seen: Tensor) -> bool:
        """Say whether ‖(A − B) V − E V‖ < ‖(A − B) V‖ for rows V (m, n) with images ``seen`` under A − B."""
        return norm((seen - self(basis)).flatten()) < norm(seen.flatten())


def observed(basis: Tensor, images: Tensor, older: SecantUpdate | None, most: int) -> SecantUpdate:
    """Return the update seen on orthonormal rows (m, n), with older directions beside them up to ``most`` rows."""
    for v, d in zip(older.basis, older.images, strict=True) if older is not None else ():
        inside = dot(basis, v).to(v.dtype)
        v, d = v - inside @ basis, d - inside @ images
        size = norm(v)
        if len(basis) < most and size > DEPENDENT:
            basis, images = torch.cat([basis, v[None] / size]), torch.cat([images, d[None] / size])
    return SecantUpdate(basis, images)
