"""What a Lanczos run from a random vector says about the eigenvalues that it did not find.

Let A be symmetric of size n with unit eigenvectors w, and z a random unit vector, uniform on the sphere. m Lanczos
steps from z give the coefficients of polynomials p_0, p_1, …, p_m that are orthonormal in the measure with weight
(wᵀz)² at every eigenvalue. Hence for every eigenvalue μ, found or not (the Christoffel function's inequality):

    (wᵀz)² ≤ 1 / Σ_j p_j(μ)²                                                                                (1)

Above the largest Ritz value the right-hand side falls as μ grows. An eigenvalue beyond μ that the run has not seen
therefore needs a start vector almost orthogonal to its eigenvector, which is improbable: wᵀz has a density of at most
√(n / 2π), so that

    P(λ_max > μ although (1) allows it) ≤ √(2n/π) / √(Σ_j p_j(μ)²)                                          (2)

The probability is over the start vector, holds at whatever step the run stops, and takes the spectrum as it is; the
bound of Kuczyński & Woźniakowski (1992), 1.648 √n exp(−√ε (2m − 1)), is what (2) can be for the worst spectrum.
A single vector cannot see how often an eigenvalue occurs, so the k-th largest is certified by a run off the vectors
found so far, where a second copy is an eigenvalue like any other (`coupled_bounds`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GRID = 64
"""Points at which (2) is evaluated together when its root is sought; two passes fix the root to 1 % of its distance
from the largest Ritz value, which is rounded up."""


def log_christoffel_sum(alphas: Array, betas: Array, mu: Array) -> Array:
    """Return log Σ_{j ≤ m} p_j(μ)² for points μ (g,), from a Lanczos run's coefficients (m,) each.

    >>> one = np.ones(1)
    >>> log_christoffel_sum(0 * one, one, np.array([3.0])).round(4)  # p_0 = 1, p_1 = μ
    array([2.3026])
    """
    before, now = np.zeros_like(mu), np.ones_like(mu)
    total, scale = np.ones_like(mu), np.zeros_like(mu)
    beta_before = 0.0
    for alpha, beta in zip(alphas, betas, strict=True):
        if beta == 0:  # the space has closed: what it has not seen has no part in the start vector
            return np.full_like(mu, math.inf)
        before, now = now, ((mu - alpha) * now - beta_before * before) / beta
        total = total + now**2
        beta_before = beta
        size = np.maximum(1.0, np.abs(now))  # so that nothing overflows
        before, now, total, scale = before / size, now / size, total / size**2, scale + 2 * np.log(size)
    return np.asarray(np.log(total) + scale)


def missed_probability(alphas: Array, betas: Array, mu: float, size: int) -> float:
    """Return the bound (2) on the probability that an eigenvalue beyond ``mu`` exists, at most 1.

    ``size`` is the dimension that the start vector is random in. For ``mu`` below the largest Ritz value it is 1.
    """
    if mu <= _largest_ritz_value(alphas, betas):
        return 1.0
    log_sum = float(log_christoffel_sum(alphas, betas, np.array([mu]))[0])
    return math.exp(min(0.0, 0.5 * (math.log(2 * size / math.pi) - log_sum)))


def upper_limit(alphas: Array, betas: Array, level: float, size: int) -> float:
    """Return a number that the largest eigenvalue exceeds with at most the probability ``level``, by (2).

    It is never below the largest Ritz value, and that value itself where the run has closed its space.
    """
    top = _largest_ritz_value(alphas, betas)
    if betas[-1] == 0:
        return top
    scale = float(np.abs(alphas).max() + betas.max())
    enough = math.log(2 * size / math.pi) - 2 * math.log(level)  # of the logarithm of the sum
    # p_1(μ) = (μ − α_1) / β_1 alone suffices at the far end
    low, high = 1e-16 * scale, 2 * scale + 2 * betas[0] * math.exp(0.5 * enough)
    for _ in range(2):
        distances = np.geomspace(low, high, GRID)
        first = int(np.argmax(log_christoffel_sum(alphas, betas, top + distances) >= enough))
        low, high = float(distances[max(first - 1, 0)]), float(distances[first])
    return float(top + high)


def coupled_bounds(values: Array, coupling: Array, limit: float, count: int) -> Array:
    """Return upper bounds (count,) for the largest eigenvalues, descending, of a matrix that is known in part.

    In an orthonormal basis that begins with Ritz vectors the matrix is [[Θ, Rᵀ], [R, D]]: Θ their values (j,), R the
    residuals outside, with RᵀR = CᵀC for ``coupling`` C (r, j), and D the rest, with eigenvalues of at most
    ``limit``. Replacing D by ``limit`` times the identity raises every eigenvalue, and what is left is small. Where
    the residuals are small this is θ + ‖r‖²/gap, with a gap that is certified (Kato 1949; Temple 1928), and never
    more than θ + ‖r‖.

    >>> coupled_bounds(np.array([2.0]), np.array([[0.1]]), 1.0, 2).round(4)
    array([2.0099, 1.    ])
    """
    j, rank = len(values), len(coupling)
    small = np.zeros((j + rank, j + rank))
    small[:j, :j] = np.diag(values)
    small[j:, :j], small[:j, j:] = coupling, coupling.T
    small[j:, j:] = limit * np.eye(rank)
    bounds = np.concatenate([np.linalg.eigvalsh(small), np.full(count, limit)])
    return np.asarray(np.sort(bounds)[::-1][:count])


def _largest_ritz_value(alphas: Array, betas: Array) -> float:
    beside = betas[: len(alphas) - 1]
    return float(np.linalg.eigvalsh(np.diag(alphas) + np.diag(beside, 1) + np.diag(beside, -1))[-1])
