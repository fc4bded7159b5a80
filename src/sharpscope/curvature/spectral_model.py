"""A symmetric matrix of low rank that stands for the Hessian where no product with it is to be spent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot
from sharpscope.curvature.lanczos import like
from sharpscope.curvature.wanted import Array

CLIP = 0.9
"""Largest value of a model relative to μ in `SpectralModel.root`, which has no end at 1. With 0.7 the searches of
`sharpscope.curvature.davidson` took 11.0 products, with 0.9 10.5, with 0.97 10.7."""

INDEPENDENT = 0.01
"""Share of its square that a vector must have outside a basis: rounding grows by the inverse of its root, ten."""

KEPT = 12
"""Eigenpairs of a result that a search that follows may use, in bfloat16: a model needs no accuracy, and so they take
the memory of six vectors."""


@dataclass(frozen=True)
class SpectralModel:
    """The symmetric matrix Σ λ y yᵀ of orthonormal rows y (m, n) and values λ (m,)."""

    vectors: Tensor
    values: Array

    def __call__(self, v: Tensor) -> Tensor:
        """Return the product with a vector (n,)."""
        return self._combined(self.values, v)

    def _combined(self, factors: Array, v: Tensor) -> Tensor:
        return (like(v, factors) * dot(self.vectors, v).to(v.dtype)) @ self.vectors

    def restored(self, dtype: torch.dtype, device: torch.device) -> SpectralModel:
        """Return the model with rows that were kept in low precision orthonormal again."""
        return SpectralModel(_orthonormal(_orthonormal(self.vectors.to(device, dtype))), self.values)

    def reversed(self) -> SpectralModel:
        """Return the model of −A."""
        return SpectralModel(self.vectors, -self.values)

    def leading(self, count: int) -> tuple[Tensor, Array]:
        """Return the vectors (c, n) of the largest values (c,), descending, at most ``count``."""
        order = np.argsort(-self.values, kind="stable")[:count]
        return self.vectors[torch.as_tensor(order, device=self.vectors.device)], self.values[order]

    def deflated(self, basis: Tensor) -> SpectralModel:
        """Return P B P, P projecting off the rows of an orthonormal basis (j, n)."""
        across = dot(self.vectors, basis).cpu().numpy()  # (m, j)
        weights, values = _compressed(across, self.values)
        left = self.vectors - like(basis, across) @ basis
        vectors = like(basis, weights) @ left
        return SpectralModel(_orthonormal(vectors), values)  # rounding has grown by up to 1/√INDEPENDENT

    def top_off(self, across: Array) -> float:
        """Return the largest eigenvalue of P B P from the inner products (m, j) of the model and the basis."""
        return float(max(_compressed(across, self.values)[1].max(initial=0.0), 0.0))

    def solve(self, theta: float, residual: Tensor) -> tuple[Tensor, float]:
        """Return t = (θ − B)⁻¹ r for a residual r (n,) and rᵀt, infinite where r has a part with a value above θ."""
        along = dot(self.vectors, residual).cpu().numpy()
        scale = max(abs(theta), float(np.finfo(np.float64).tiny))
        gaps = theta - self.values
        left = float(dot(residual, residual)) - float(along @ along)
        with np.errstate(divide="ignore"):
            missing = float((along**2 / np.maximum(gaps, 0.0)).sum()) if len(along) else 0.0
        safe = np.where(np.abs(gaps) > 1e-3 * scale, gaps, 1e-3 * scale)
        t = residual / scale + like(residual, along * (1 / safe - 1 / scale)) @ self.vectors
        return t, missing + max(left, 0.0) / scale

    def clipped(self, mu: float) -> SpectralModel:
        """Return the model with its values cut to `CLIP` · μ."""
        return SpectralModel(self.vectors, np.minimum(self.values, CLIP * mu))

    def root(self, mu: float, v: Tensor) -> Tensor:
        """Return (1 − B/μ)^(−1/2) v."""
        return v + self._combined(1 / np.sqrt(1 - self.values / mu) - 1, v)

    def limit(self, f: float, mu: float) -> float:
        """Return the bound of D that (1) makes of a bound f of F."""
        outermost = self.values.max(initial=0.0) if f <= 1 else self.values.min(initial=0.0)
        return float(f * mu + (1 - f) * outermost)


def _compressed(across: Array, values: Array) -> tuple[Array, Array]:
    """Return weights (r, m) that make eigenvectors of P B P of the projected rows, and its eigenvalues (r,)."""
    sizes, turn = np.linalg.eigh(np.eye(len(values)) - across @ across.T)
    kept = sizes > INDEPENDENT
    half = np.sqrt(sizes[kept])[:, None] * turn[:, kept].T  # (r, m)
    found, vectors = np.linalg.eigh(half * values @ half.T)
    return vectors.T @ (turn[:, kept] / np.sqrt(sizes[kept])).T, found


def _orthonormal(rows: Tensor) -> Tensor:
    """Return rows (m, n) that are nearly orthonormal more so: a step of Newton's towards the nearest that are."""
    small = 1.5 * np.eye(len(rows)) - 0.5 * dot(rows, rows).cpu().numpy()
    return like(rows, small) @ rows
