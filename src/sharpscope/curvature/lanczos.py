"""Lanczos with full reorthogonalisation.

Without reorthogonalisation a converged Ritz value returns as copies ("ghosts") that pass every residual
test. Here every new vector is orthogonalised twice against the whole basis (Parlett 1998, section 13.8).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm, project_out

Matvec = Callable[[Tensor], Tensor]


@dataclass
class Krylov:
    """An orthonormal basis V (m, n) and the tridiagonal T = V A Vᵀ it brings A to.

    ``alphas`` (m) is T's diagonal, ``betas`` (m) the off-diagonal; the last beta couples to the vector that
    would come next, so that ‖A u − θ u‖ = |beta_m · s_m| for the Ritz pair with T-eigenvector s.
    """

    basis: Tensor
    alphas: list[float]
    betas: list[float]

    def ritz(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return Ritz values ascending (m), their T-eigenvectors as columns (m, m) and residual norms (m)."""
        off = self.betas[: len(self.alphas) - 1]
        tridiagonal = np.diag(self.alphas) + np.diag(off, 1) + np.diag(off, -1)
        values, vectors = np.linalg.eigh(tridiagonal)
        return values, vectors, np.abs(self.betas[-1] * vectors[-1])


def lanczos(
    matvec: Matvec,
    start: Tensor,
    steps: int,
    fresh: Callable[[], Tensor],
    stop: Callable[[Krylov], bool] = lambda _: False,
) -> Krylov:
    """Run Lanczos on a symmetric operator from a start vector (n).

    ``stop`` is asked after each product. Where the Krylov space closes (an invariant subspace was found),
    the iteration goes on from ``fresh()``, orthogonalised against the basis, so that multiple eigenvalues
    and parts of the spectrum that the start vector missed are found too.
    """
    n = start.numel()
    steps = min(steps, n)
    basis = start.new_empty((min(steps, 32), n))  # grown by doubling
    basis[0] = start / norm(start)
    krylov = Krylov(basis[:1], [], [])
    scale = 0.0
    for m in range(1, steps + 1):
        image = matvec(krylov.basis[m - 1])
        alpha = float(dot(image, krylov.basis[m - 1]))
        remainder = project_out(image, krylov.basis)
        beta = norm(remainder)
        scale = max(scale, abs(alpha), beta, norm(image))
        closed = beta <= 20 * torch.finfo(start.dtype).eps * scale
        krylov.alphas.append(alpha)
        krylov.betas.append(0.0 if closed else beta)
        if m == steps or stop(krylov):
            break
        if closed:
            remainder = project_out(fresh(), krylov.basis)
            beta = norm(remainder)
        if m == len(basis):
            basis = torch.cat([basis, basis.new_empty((min(m, steps - m), n))])
        basis[m] = remainder / beta
        krylov.basis = basis[: m + 1]
    return krylov
