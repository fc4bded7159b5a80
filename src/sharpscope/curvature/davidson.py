"""The fast search: block Davidson, with the Hessian on a subset of the data as preconditioner. It certifies nothing.

Let A be the Hessian over all the data and B the Hessian over a part of it, whose products cost little. B's leading
eigenvectors start the search space V. For every wanted Ritz pair (θ, u) with residual r = A u − θ u the equation
(θ − P B P) t = r is solved to a few digits, P projecting off V, and t joins V (Morgan & Scott 1986; Sleijpen & van
der Vorst 1996 for the projected form). All the data is multiplied with the start block and with one correction a
pair and round, nowhere else.

In the basis [V, V⊥] an outer eigenvalue is λ = θ + rᵀ(λ − D)⁻¹ r exactly, with D = P A P. The solve yields the same
expression with B for A, so rᵀt predicts what is still missing of θ. The prediction is as good as the subset is like
all the data, and what the subset does not show stays unseen: the errors are estimates without a probability.

Along training the difference A − B changes slowly while the same samples are drawn: the next search adds what one saw
of it to B (`SecantUpdate`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm, project_out
from sharpscope.curvature.certified_search import rounding
from sharpscope.curvature.lanczos import Krylov, lanczos, like
from sharpscope.curvature.wanted import Array, Operator, Outcome

SAFETY = 4.0
"""Factor on the predicted error, which a subset's noise can make too small."""

CLAIM = 0.3
"""No error below this share of the tolerance is claimed: predictions that small were not checked."""

INNER = 12
"""Most subset products of one solve. It ends before at a residual of 5 %, beyond which the subset's noise decides."""

CLUSTER, MOST_CLUSTERED = 0.2, 3
"""Ritz vectors of the subset within this share of the k-th value join the start block, at most so many: the subset
cannot tell which of them leads (on the MLP the two largest differ by 3 %)."""

RESIDUAL = 0.01
"""Residual, relative to the value, at which the subset's Ritz vectors are good enough to start from."""

ALIKE = 0.7
"""Least ratio, either way, of the curvature along the start block on the subset and on all the data; beyond it the
subset is no likeness and the search ends. Along the leading vector of 256 uniform samples of a trained VGG-11 the
ratio is 0.15, along that of 400 drawn by importance it is 1."""

ROOM = 40
"""Vectors kept before the basis is cut back to its leading Ritz vectors."""

DEPENDENT = 0.3
"""A direction of an older secant update is dropped where less than this share of it lies outside the newer ones."""


@dataclass(frozen=True)
class SecantUpdate:
    """The symmetric E of least Frobenius norm with E V = (A − B) V (Powell 1970), for orthonormal rows V (m, n).

    Attributes
    ----------
    basis, images
        V, and its images under A − B (m, n).

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
        return norm(seen - self(basis)) < norm(seen)

    @classmethod
    def observed(cls, basis: Tensor, images: Tensor, older: SecantUpdate | None, most: int) -> SecantUpdate:
        """Return the update seen on orthonormal rows (m, n), with an older one's directions up to ``most`` rows."""
        for v, d in zip(older.basis, older.images, strict=True) if older is not None else ():
            inside = dot(basis, v).to(v.dtype)
            v, d = v - inside @ basis, d - inside @ images
            size = norm(v)
            if len(basis) < most and size > DEPENDENT:
                basis, images = torch.cat([basis, v[None] / size]), torch.cat([images, d[None] / size])
        return cls(basis, images)


@dataclass(frozen=True)
class Correction:
    """The solution t (n,) of a correction equation and what it predicts to be missing of the Ritz value.

    ``steeper`` (n,) is a direction off the basis along which the subset curves more than the Ritz value, if met.
    """

    vector: Tensor
    missing: float
    steeper: Tensor | None = None


def corrected(subset: Operator, basis: Tensor, residual: Tensor, theta: float) -> Correction:
    """Solve (θ − P B P) t = r by conjugate gradients, P projecting off the basis (m, n); stop at negative curvature.

    What is missing is rᵀ(θ − P B P)⁻¹ r = rᵀt + ρᵀ(θ − P B P)⁻¹ ρ with ρ the residual left after the last step; the
    second term is at most ‖ρ‖²/μ, μ the smallest eigenvalue, for which the recurrence's own Ritz value stands in.
    """
    left = project_out(residual, basis)
    t, p = torch.zeros_like(left), left
    first = size = float(dot(left, left))
    if first == 0:
        return Correction(left, 0.0)
    diagonal: list[float] = []  # of the tridiagonal matrix that conjugate gradients build
    beside: list[float] = []
    beta, alpha_before = 0.0, 1.0
    for _ in range(INNER):
        image = theta * p - project_out(subset(p), basis)
        curvature = float(dot(p, image))
        if curvature <= 0:
            return Correction(t if bool(t.any()) else left, math.inf, p / norm(p))
        alpha = size / curvature
        diagonal.append(1 / alpha + beta / alpha_before)
        t, left = t + alpha * p, left - alpha * image
        new = float(dot(left, left))
        if new <= 3e-3 * first:
            break
        beta, alpha_before, size = new / size, alpha, new
        beside.append(math.sqrt(beta) / alpha)
        p = left + beta * p
    between = beside[: len(diagonal) - 1]
    smallest = float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(between, 1) + np.diag(between, -1))[0])
    return Correction(t, float(dot(residual, t)) + (new / smallest if smallest > 0 else math.inf))


class SubsetDavidson:
    """Solver with a state for the k largest eigenvalues; ``step`` until ``outcome`` is no longer "running".

    Parameters
    ----------
    full, subset
        The Hessian A over all the data, and B over a part of it.
    begin
        The Hessian over a part of that part, on which B's leading eigenvectors are first sought.
    start
        Rows (b, n) to begin from, an earlier search's eigenvectors, or none (0, n).
    update
        What an earlier search saw of A − B.

    """

    def __init__(
        self,
        full: Operator,
        subset: Operator,
        begin: Operator,
        k: int,
        tol: float,
        fresh: Callable[[], Tensor],
        start: Tensor,
        update: SecantUpdate | None = None,
    ) -> None:
        self.full, self.plain, self.k, self.tol, self.fresh = full, subset, k, tol, fresh
        self.update = update
        self.outcome: Outcome = "running"
        self.products = self.rounds = 0
        self.norm = 0.0
        block, claimed = self._start_block(begin, start)
        self.basis, self.images = block[:0], block[:0]
        self._multiply(block)
        seen = float((block[:k].double() * self.images[:k].double()).sum())
        self.alike = claimed <= 0 or ALIKE * claimed <= seen <= claimed / ALIKE
        if update is not None and not update.reduces_residual(
            self.basis, self.images - self.plain(self.basis)
        ):
            self.update = None

    def subset(self, vectors: Tensor) -> Tensor:
        """Return B v, with what is known of A − B added."""
        return self.plain(vectors) if self.update is None else self.plain(vectors) + self.update(vectors)

    def _start_block(self, begin: Operator, start: Tensor) -> tuple[Tensor, float]:
        """Return the subset's leading Ritz vectors (b, n), cluster included, and Σ vᵀBv over the k wanted."""
        if len(start):
            first = start.sum(0) + 0.1 * _unit(self.fresh())
        else:  # the sum of the leading ones: something of each
            krylov = self._search(begin, self.fresh())
            leading = krylov.ritz()[1][:, -self.k - MOST_CLUSTERED :].sum(axis=1)
            first = like(krylov.basis, leading) @ krylov.basis + 0.1 * _unit(self.fresh())
        krylov = self._search(self.subset, first)
        values, vectors, _ = krylov.ritz()
        values, vectors = values[::-1], vectors[:, ::-1]
        self.norm = float(np.abs(values).max())
        near = values >= values[min(self.k, len(values)) - 1] - CLUSTER * abs(values[0])
        count = min(max(self.k, int(near.sum())), self.k + MOST_CLUSTERED, len(values))
        return like(krylov.basis, vectors[:, :count].T) @ krylov.basis, float(values[: self.k].sum())

    def _search(self, operator: Operator, first: Tensor) -> Krylov:
        """Run Lanczos until the k leading Ritz vectors are accurate."""

        def accurate(krylov: Krylov) -> bool:
            values, _, residuals = krylov.ritz()
            scale = abs(values[-1])
            return len(values) >= self.k + 3 and bool((residuals[-self.k :] <= RESIDUAL * scale).all())

        return lanczos(operator, first, 10 * self.k + 30, self.fresh, accurate)

    def _multiply(self, block: Tensor) -> None:
        """Let the part of the rows (b, n) that lies outside the basis join it, with its image."""
        for row in block:
            left = project_out(row / norm(row), self.basis)
            if norm(left) > 1e-4:
                left = project_out(left / norm(left), self.basis)
                left = left / norm(left)
                self.basis = torch.cat([self.basis, left[None]])
        new = self.basis[len(self.images) :]
        if len(new):
            self.images = torch.cat([self.images, self.full(new)])
            self.products += len(new)

    def step(self) -> None:
        """Take the Ritz pairs of the basis; multiply a correction of each that is not yet good enough."""
        theta, turn = self._rayleigh_ritz()
        self.norm = max(self.norm, float(np.abs(theta).max()))
        weights = like(self.basis, turn[:, : self.k].T)
        vectors = weights @ self.basis  # (k, n)
        remainder = weights @ self.images - like(self.basis, theta[: self.k])[:, None] * vectors
        floor = rounding(torch.finfo(self.basis.dtype).eps, self.norm)
        target = self.tol * np.abs(theta[: self.k])
        solved = [
            corrected(self.subset, self.basis, r, float(t)) for r, t in zip(remainder, theta, strict=False)
        ]
        residuals = remainder.double().norm(dim=1).cpu().numpy()
        missing = np.minimum([s.missing for s in solved], residuals)
        errors = np.maximum(np.minimum(SAFETY * missing, residuals), CLAIM * target) + floor
        self.values, self.vectors = theta[: self.k] + missing, vectors
        self.residuals, self.errors = residuals, errors
        self.rounds += 1
        steeper = [s.steeper for s in solved if s.steeper is not None]
        worse = errors > np.maximum(target, 2 * floor)
        additions = steeper + [s.vector for s, more in zip(solved, worse, strict=True) if more]
        if not additions or len(self.basis) == self.basis.shape[1]:
            self.outcome = "finished" if (errors <= target).all() else "limited by precision"
            return
        before = len(self.basis)
        self._multiply(torch.stack(additions))
        if len(self.basis) == before:
            self._multiply(self.fresh()[None])

    def _rayleigh_ritz(self) -> tuple[Array, Array]:
        """Return Ritz values descending (m,), their coefficients as columns (m, m); cut a basis that is full."""
        for _ in range(2):
            small = dot(self.basis, self.images).cpu().numpy()
            values, turn = np.linalg.eigh((small + small.T) / 2)
            values, turn = values[::-1].copy(), turn[:, ::-1].copy()
            if len(self.basis) <= ROOM + self.k:
                break
            kept = like(self.basis, turn[:, : self.k + ROOM // 2].T)
            self.basis, self.images = kept @ self.basis, kept @ self.images
        return values, turn

    def observed(self) -> SecantUpdate:
        """Return what this search saw of A − B, for the next one."""
        _, turn = self._rayleigh_ritz()
        weights = like(self.basis, turn[:, : self.k + 1].T)
        outer = weights @ self.basis
        return SecantUpdate.observed(
            outer, weights @ self.images - self.plain(outer), self.update, self.k + 1
        )


def _unit(vector: Tensor) -> Tensor:
    return vector / norm(vector)
