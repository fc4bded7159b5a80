"""Lanczos with full reorthogonalisation.

Without reorthogonalisation a converged Ritz value returns as copies ("ghosts") that pass every residual test. Here
every new vector is orthogonalised twice against the whole basis (Parlett 1998, section 13.8).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm, project_out

Matvec = Callable[[Tensor], Tensor]
Array = NDArray[np.float64]

CLOSED = 20
"""Multiple of the rounding error of a product below which what is left of it counts as nothing: the space is then
invariant. Products of float32 networks leave about five."""


FEW = 32
"""Most vectors for which all room is taken at once."""


class Krylov:
    """The state of a Lanczos run on P A P, P projecting off the rows of ``beside`` (j, n), from ``start`` (n,).

    ``basis`` V (m, n) is orthonormal and V A Vᵀ is tridiagonal: ``alphas`` (m,) its diagonal, ``betas`` (m,) beside
    it. The last beta couples to ``following``, the vector to multiply next; it is zero where the space has closed.
    ``most`` says how many vectors there will be at most.
    """

    def __init__(self, start: Tensor, beside: Tensor | None = None, most: int | None = None) -> None:
        self.beside = start.new_zeros(0, start.numel()) if beside is None else beside
        # grown by doubling, which holds the old and the new at once; whole from the start where few will do
        rows = most if most is not None and most <= FEW else 8
        self._room = start.new_empty((min(rows, start.numel()), start.numel()))
        self._alphas: list[float] = []
        self._betas: list[float] = []
        self._scale = 0.0
        self.following = self._unit(start)

    @property
    def steps(self) -> int:
        """Number m of vectors multiplied so far."""
        return len(self._alphas)

    @property
    def basis(self) -> Tensor:
        """The vectors multiplied so far (m, n)."""
        return self._room[: self.steps]

    @property
    def alphas(self) -> Array:
        """The tridiagonal's diagonal (m,)."""
        return np.array(self._alphas)

    @property
    def betas(self) -> Array:
        """The tridiagonal's off-diagonal and the coupling to the next vector (m,)."""
        return np.array(self._betas)

    @property
    def closed(self) -> bool:
        """Whether the space is invariant."""
        return bool(self._betas) and self._betas[-1] == 0.0

    def extend(self, image: Tensor) -> None:
        """Take in the image of ``following`` under A."""
        m = self.steps
        if m == len(self._room):
            more = min(m, self._room.shape[1] - m)
            self._room = torch.cat([self._room, self._room.new_empty((more, self._room.shape[1]))])
        self._room[m] = self.following
        size = norm(image)
        image = project_out(image, self.beside)
        alpha = float(dot(image, self.following))
        remainder = project_out(project_out(image, self._room[: m + 1]), self.beside, times=1)
        beta = norm(remainder)
        self._scale = max(self._scale, abs(alpha), beta, size)
        closed = beta <= CLOSED * torch.finfo(image.dtype).eps * self._scale
        self._alphas.append(alpha)
        self._betas.append(0.0 if closed else beta)
        if not closed:
            self.following = remainder / beta

    def restart(self, vector: Tensor) -> None:
        """Go on from another vector (n,) where the space has closed."""
        self.following = self._unit(vector)

    def _unit(self, vector: Tensor) -> Tensor:
        left = project_out(project_out(vector / norm(vector), self.beside), self.basis)
        return left / norm(left)

    @property
    def tridiagonal(self) -> Array:
        """V A Vᵀ (m, m)."""
        beside = self.betas[: self.steps - 1]
        return np.diag(self.alphas) + np.diag(beside, 1) + np.diag(beside, -1)

    def ritz(self) -> tuple[Array, Array, Array]:
        """Return Ritz values ascending (m,), their coefficients as columns (m, m) and residual norms (m,)."""
        values, vectors = np.linalg.eigh(self.tridiagonal)
        return values, vectors, np.abs(self.betas[-1] * vectors[-1])


def like(tensor: Tensor, array: Array) -> Tensor:
    """Return an array as a tensor of another tensor's precision, on its device."""
    return torch.as_tensor(np.ascontiguousarray(array), dtype=tensor.dtype, device=tensor.device)


def lanczos(
    matvec: Matvec,
    start: Tensor,
    steps: int,
    fresh: Callable[[], Tensor],
    stop: Callable[[Krylov], bool] = lambda _: False,
) -> Krylov:
    """Run at most ``steps`` steps of Lanczos on a symmetric operator from a start vector (n,).

    ``stop`` is asked after each product. Where the space closes, the run goes on from ``fresh()``, so that multiple
    eigenvalues and parts of the spectrum that the start vector missed are found too.
    """
    krylov = Krylov(start)
    for m in range(1, min(steps, start.numel()) + 1):
        krylov.extend(matvec(krylov.following))
        if m == min(steps, start.numel()) or stop(krylov):
            break
        if krylov.closed:
            krylov.restart(fresh())
    return krylov
