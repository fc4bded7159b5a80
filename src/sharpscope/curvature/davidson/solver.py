"""Block Davidson with a subset of the data as preconditioner.

Let A be the Hessian over all the data and B the Hessian over a small fixed subset, whose products are nearly free.
B's leading eigenvectors start the search space V. For every wanted Ritz pair (θ, u) with residual r = Au − θu the
equation (θ − PBP) t = r is solved to a few digits, P projecting off V, and t joins V: full-data products are spent on
the start block and on one correction per pair and round, nowhere else (Morgan & Scott 1986; Sleijpen & van der Vorst
1996 for the projected form).

A leader is worth as much as it is accurate on the subset, where accuracy costs next to nothing: the search starts
from leaders with a residual of a hundredth. Where vectors from elsewhere (``start``, an earlier checkpoint's) nearly
contain a leader, their part of it is taken instead: it was accurate on all the data. What that earlier search saw of
the subset's departure from all the data (`secant_update`) is added to the subset's products.

Errors. In the basis [V, V⊥] an outer eigenvalue is λ = θ + rᵀ(λ − D)⁻¹r exactly, with D = PAP. The solve yields the
same expression with B for A, so rᵀt predicts what is still missing, far more sharply than ‖r‖²/gap, because most of
a residual lies where D is small. Wherever the solve meets a direction along which B curves more than θ, that
direction joins V instead: it may be an eigenvector that V has missed. Where the prediction is too large to be left
unchecked and small enough to be right, a second subset is asked for its own: how far the two are apart says how far
either may be from the truth, and costs less than another product of all the data.

Where B is no likeness of A all the same (`importance_sampling` is there to prevent it: the leaders of a few samples
drawn uniformly fit those samples, and curve a fifth as much on any others) this must not be believed. So a second
subset is asked first, and then all the data. Where they do not confirm the leaders, these only begin the search,
beside a random vector, and the residuals of the wanted pairs and of the next one join V as they are: block Lanczos,
fully reorthogonalised, its errors by Kato and Temple. A block wider than what is wanted costs products, but the
Ritz value of a single vector can rest between two close eigenvalues with a small residual: of 300 spectra with a
close pair on top, 38 values so found were off by more than was claimed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm, project_out
from sharpscope.curvature.davidson.secant_update import SecantUpdate, observed
from sharpscope.curvature.lanczos import Krylov, lanczos

Operator = Callable[[Tensor], Tensor]
"""Maps a vector (n,) or the rows of a block (b, n) to their images."""

SAFETY = 2.0
"""Factor on the predicted error, which a subset's noise can make too small."""

SMALL = 1e-3
"""Errors are relative to the value, or to this share of the operator's norm where the value is smaller."""

CLAIM = 0.3
"""No error below this share of the tolerance is claimed: predictions that small were not checked."""

UNCHECKED = 3.0
"""Further factor on the first prediction, which no round has yet compared with what came."""

OPINION, APART = 0.25, 3.0
"""Where two subsets predict: no error below this share of the prediction or so many times their difference."""

ALIKE = 0.97
"""Share of a leader's square that vectors from elsewhere must hold for their part of it to take its place."""

MATES, KNOWN_MATES, MOST_MATES = 0.2, 0.05, 3
"""Vectors whose subset eigenvalue is within this share of the k-th join the start block, at most so many: the subset
cannot tell which of them leads, but can do so better where its departure from all the data is known."""

LEADER, NEXT = 0.01, 0.1
"""Residuals, relative to the largest, at which the subset's k leaders and the one after them are good enough."""

BLUR = 0.03
"""How far below a value, relative to it, the few steps of the second look may leave what exceeds it."""

LOOK, MOST, LOOKS = 15, 2, 3
"""Most subset products of a second look, most directions it may add, and most such looks."""

TRUST = 0.7
"""Least ratio of the curvatures along the leaders on their own subset and on a second one, or on all the data."""

STIR, LEAST, NEAR = 0.1, 6, 0.03
"""Size of the random part, beside leaders of size one, that an unaided search begins with; how many vectors beyond
those wanted it multiplies at least; and the largest gap, relative to the value, that its error estimates trust."""


TINY = float(np.finfo(np.float64).tiny)


@dataclass
class Pairs:
    """Ritz pairs of the full operator, the outermost first, what is known of their errors, and ‖A‖ about.

    ``departure`` is what the full operator adds to the subset's, where a search was told to look. ``aided`` says
    whether a subset guided the search.
    """

    values: NDArray[np.float64]
    vectors: Tensor
    residuals: NDArray[np.float64]
    errors: NDArray[np.float64]
    converged: NDArray[np.bool_]
    norm: float
    departure: SecantUpdate | None = None
    aided: bool = True


@dataclass
class Subsets:
    """Hessians over subsets of the data: a small one to begin with, one to solve on, another for the second look.

    ``none`` says that the data is too small for subsets and that all of these are the full operator.
    """

    begin: Operator
    solve: Operator
    look: Operator
    none: bool = False


@dataclass
class Settings:
    """How hard to look.

    ``inner``: subset products per solve. ``basis``: vectors kept before a restart. ``observe``: whether to look
    at the end how the subset departs from all the data, for the next search.
    """

    k: int
    tol: float
    products: int
    inner: int = 12
    basis: int = 40
    observe: bool = False


def davidson(
    full: Operator,
    subsets: Subsets,
    start: Tensor,
    settings: Settings,
    fresh: Callable[[], Tensor],
    spent: Callable[[], int],
    departure: SecantUpdate | None = None,
) -> Pairs:
    """Return the k largest eigenpairs of ``full``.

    ``start`` (b, n) is a block to begin from (an earlier eigenvector, say), or empty (0, n). ``fresh()`` gives random
    vectors, ``spent()`` the full-data products spent so far; no round begins once it has reached
    ``settings.products``. ``departure`` is what an earlier search saw ``full`` add to ``subsets.solve``.
    """
    k, tol = settings.k, settings.tol
    plain = subset = subsets.solve
    aided = True
    if departure is not None:
        subset = _sum(plain, departure)
    if subsets.none:  # what a search of the data itself has multiplied need not be multiplied again
        kept: list[Tensor] = []
        krylov = _search(lambda v: _kept(full(v), kept), _first(start, fresh()), settings, fresh)
        basis, images = krylov.basis, torch.stack(kept)
        largest = 0.0
    else:
        mates = MATES if departure is None else KNOWN_MATES
        leaders, claimed, largest, crowd = _subset_leaders(
            replace(subsets, solve=subset), start, settings, mates, fresh
        )
        unaided = torch.cat([start, crowd[None], leaders[1:]])[:k]
        aided = _alike(claimed, _along(leaders[:k], subsets.look(leaders[:k])))
        basis = _orthonormal(_known_better(leaders, start) if aided else _begun(unaided, fresh), start[:0])
        images = full(basis)
        if aided and not _alike(claimed, _along(basis[:k], images[:k])):
            aided = False
            more = _orthonormal(_begun(unaided, fresh), basis)
            basis, images = torch.cat([basis, more]), torch.cat([images, full(more)])
        if not aided:
            largest = 0.0
        if departure is not None and not departure.reduces_residual(basis, images - plain(basis)):
            subset, departure = plain, None

    def opinion(vector: Tensor, residual: Tensor, theta: float, solved: _Solved) -> float:
        """Return the error of what a solve says is missing, by what a second subset says."""
        other = _solve(subsets.look, basis, residual, theta, settings.inner)
        noise = norm(residual - project_out(plain(vector), basis))
        share = max(OPINION, noise / min(solved.gap, other.gap))
        return max(share * solved.missing, APART * abs(solved.missing - other.missing))

    promised: NDArray[np.float64] | None = None  # what the last round said was missing of each value
    before: NDArray[np.float64] | None = None
    doubt = np.full(k, UNCHECKED)  # how much more the values have risen than was promised
    uncorrected = not subsets.none  # on later residuals, which corrections have shaped, two subsets err alike
    looks = 0
    rounds = 0
    while True:
        theta, s = _rayleigh_ritz(basis, images)
        if len(basis) > settings.basis + k:  # thick restart: nothing is multiplied anew
            keep = _as(basis, s[:, : k + settings.basis // 2].T)
            basis, images = keep @ basis, keep @ images
            theta, s = _rayleigh_ritz(basis, images)
        largest = max(largest, float(np.abs(theta).max()))
        rounding = 10 * torch.finfo(basis.dtype).eps * largest
        vectors, remainder = _ritz_vectors(
            basis, images, theta, s[:, : k + 1]
        )  # (k + 1, n): one beyond those wanted
        residuals = remainder.double().norm(dim=1).cpu().numpy()
        values = theta[:k]
        if before is not None and promised is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(promised > rounding, (values - before) / promised, 1.0)
            # a doubt met once wears off by halves; the first one was only for want of a check
            worn = np.ones(k) if rounds == 1 else 0.5 * doubt
            doubt = np.maximum(worn, np.clip(ratio, 1.0, 100.0))
        errors, additions, missing = np.empty(k), [], np.empty(k)
        target = tol * np.maximum(np.abs(values), SMALL * largest)
        for j in range(k):
            if aided:
                solved = _solve(subset, basis, remainder[j], float(values[j]), settings.inner)
                missing[j] = min(solved.missing, residuals[j])
                errors[j] = min(SAFETY * doubt[j] * missing[j], residuals[j])
            else:
                solved = _Solved(remainder[j], _kato_temple(theta, residuals, j, k))
                missing[j], errors[j] = 0.0, min(solved.missing, residuals[j])
            if aided and uncorrected and errors[j] > target[j] >= OPINION * missing[j]:
                errors[j] = min(errors[j], opinion(vectors[j], remainder[j], float(values[j]), solved))
            errors[j] = max(errors[j], CLAIM * target[j]) + rounding
            if solved.steeper is not None:
                additions.append(solved.steeper)
            if errors[j] > target[j]:
                additions.append(solved.correction)
        converged = errors <= target
        if len(basis) == basis.shape[1]:  # the whole space: nothing is left out
            exact = np.full(k, rounding), np.ones(k, dtype=bool)
            return Pairs(values, vectors[:k], residuals[:k], *exact, largest, aided=aided)
        if not aided and additions:
            additions.append(remainder[-1])  # the next one grows as well
        uncorrected = uncorrected and not additions
        if aided and bool(converged.all()) and not additions and looks < LOOKS:
            looks += 1
            last, value = vectors[k - 1], float(values[-1])
            noise = abs(float(dot(last, subset(last))) - value)
            least = value - min(max(noise, BLUR * abs(value)), 0.5 * abs(value))
            rival = False  # a runner-up not known well enough to be below
            if len(theta) > k and theta[k] + residuals[k] > theta[k - 1]:
                solved = _solve(subset, basis, remainder[k], float(theta[k]), settings.inner)
                room = theta[k - 1] - theta[k]
                rival = SAFETY * float(doubt[-1]) * solved.missing > room
                if rival and uncorrected and solved.missing < room:
                    doubtful = opinion(vectors[k], remainder[k], float(theta[k]), solved)
                    rival = solved.missing + doubtful > room
            additions += _second_look(subsets.look, vectors[:k] if rival else basis, least, fresh)
        if (bool(converged.all()) and not additions) or spent() >= settings.products:
            seen = None
            if settings.observe and not subsets.none:
                weights = _as(basis, s[:, : k + 1].T)
                outer = weights @ basis
                seen = observed(outer, weights @ images - plain(outer), departure, k + 1)
            return Pairs(
                values + missing, vectors[:k], residuals[:k], errors, converged, largest, seen, aided
            )
        block = _orthonormal(torch.stack(additions), basis)
        if len(block) == 0:
            block = _orthonormal(fresh()[None], basis)
        basis, images = torch.cat([basis, block]), torch.cat([images, full(block)])
        before, promised, rounds = values, missing, rounds + 1


def _second_look(subset: Operator, basis: Tensor, least: float, fresh: Callable[[], Tensor]) -> list[Tensor]:
    """Search a second subset's curvature off the basis, from a new random vector, for what may exceed ``least``."""

    def left(v: Tensor) -> Tensor:
        return project_out(subset(project_out(v, basis)), basis)

    def settled(krylov: Krylov) -> bool:
        values, _, residuals = krylov.ritz()
        if len(values) < 4:
            return False
        return bool(residuals[-1] < BLUR * abs(values[-1]) or values[-1] + residuals[-1] < least)

    steps = min(LOOK, basis.shape[1] - len(basis))  # of the space that is left
    krylov = lanczos(left, project_out(fresh(), basis), steps, lambda: project_out(fresh(), basis), settled)
    values, vectors, _ = krylov.ritz()
    return [_as(basis, vectors[:, i]) @ krylov.basis for i in range(len(values)) if values[i] > least][-MOST:]


@dataclass
class _Solved:
    """A correction (n,), the improvement of θ that is still to come, and a direction steeper than θ if met.

    ``gap`` is the smallest eigenvalue of θ − PBP as far as the steps show: how far the next eigenvalue lies below.
    """

    correction: Tensor
    missing: float
    steeper: Tensor | None = None
    gap: float = TINY


def _solve(subset: Operator, basis: Tensor, residual: Tensor, theta: float, steps: int) -> _Solved:
    """Conjugate gradients on (θ − PBP) t = P r, P projecting off the basis (m, n); stops at negative curvature.

    What is missing is rᵀ(θ − PBP)⁻¹r = rᵀt + ρᵀ(θ − PBP)⁻¹ρ with ρ the residual left after the last step; the
    second term is at most ‖ρ‖²/μ, μ the smallest eigenvalue, for which the recurrence's own Ritz value stands in.
    """
    r = project_out(residual, basis)
    t, p = torch.zeros_like(r), r
    first = square = float(dot(r, r))
    if first == 0:
        return _Solved(r, 0.0)
    diagonal: list[float] = []  # of the Lanczos tridiagonal that conjugate gradients build
    off_diagonal: list[float] = []
    before = (0.0, 1.0)  # the last beta and alpha
    for _ in range(steps):
        ap = theta * p - project_out(subset(p), basis)
        curvature = float(dot(p, ap))
        if curvature <= 0:
            return _Solved(t if bool(t.any()) else r, math.inf, p / norm(p))
        alpha = square / curvature
        diagonal.append(1 / alpha + before[0] / before[1])
        t, r = t + alpha * p, r - alpha * ap
        new = float(dot(r, r))
        if new <= 3e-3 * first:
            break
        beta = new / square
        off_diagonal.append(math.sqrt(beta) / alpha)
        before, square = (beta, alpha), new
        p = r + beta * p
    beside = off_diagonal[: len(diagonal) - 1]
    smallest = float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))[0])
    missing = float(dot(residual, t)) + (new / smallest if smallest > 0 else math.inf)
    return _Solved(t, missing, gap=max(smallest, TINY))


def _along(vectors: Tensor, images: Tensor) -> float:
    """Return Σ vᵀAv over orthonormal vectors (k, n) with images Av (k, n)."""
    return float((vectors.double() * images.double()).sum())


def _alike(claimed: float, seen: float) -> bool:
    """Say whether the curvature along leaders on their own subset and on other data is about the same."""
    return claimed <= 0 or TRUST * claimed <= seen <= claimed / TRUST


def _begun(vectors: Tensor, fresh: Callable[[], Tensor]) -> Tensor:
    """Return vectors (b, n), made size one with a random part so as to be orthogonal to nothing, and one more."""
    draws = [fresh() for _ in vectors]
    stirred = [v / norm(v) + STIR * z / norm(z) for v, z in zip(vectors, draws, strict=True)]
    return torch.stack([*stirred, fresh()])


def _kato_temple(theta: NDArray[np.float64], residuals: NDArray[np.float64], j: int, k: int) -> float:
    """Return Σ ‖r_i‖² / (θ_j − λ) over the k wanted pairs, the next eigenvalue λ put at θ_k plus its residual."""
    if len(theta) < k + LEAST:
        return math.inf
    gap = min(float(theta[j] - theta[k] - residuals[k]), NEAR * abs(float(theta[j])))
    return float(np.square(residuals[:k]).sum()) / gap if gap > 0 else math.inf


def _kept(image: Tensor, kept: list[Tensor]) -> Tensor:
    kept.append(image)
    return image


def _first(start: Tensor, random: Tensor) -> Tensor:
    """Return a vector to begin from: the sum of given ones with something of a random one, or that alone."""
    return start.sum(dim=0) + 0.1 * random / norm(random) if len(start) else random


def _search(operator: Operator, first: Tensor, settings: Settings, fresh: Callable[[], Tensor]) -> Krylov:
    """Run Lanczos until the k leading Ritz vectors are accurate and the one after them is known."""
    k = settings.k

    def good_enough(krylov: Krylov) -> bool:
        values, _, residuals = krylov.ritz()
        if len(values) < k + 3:
            return False
        scale = abs(values[-1])
        return bool((residuals[-k:] <= LEADER * scale).all() and residuals[-k - 1] <= NEXT * scale)

    return lanczos(operator, first, min(10 * k + 30, max(settings.products, k)), fresh, good_enough)


def _subset_leaders(
    subsets: Subsets, start: Tensor, settings: Settings, mates: float, fresh: Callable[[], Tensor]
) -> tuple[Tensor, float, float, Tensor]:
    """Return the subset's leading eigenvectors (b, n), Σ vᵀBv over the k wanted, B's norm, and a crowd (n,).

    Mates join the k. A crowd is the sum of the leading Ritz vectors, of more than could be mates: something of each.
    """
    k, first = settings.k, _first(start, fresh())
    if len(start) == 0 and subsets.begin is not subsets.solve:
        first = _first(_crowd(_search(subsets.begin, first, settings, fresh), k)[None], first)
    krylov = _search(subsets.solve, first, settings, fresh)
    values, vectors, _ = krylov.ritz()
    values, vectors = values[::-1], vectors[:, ::-1]
    count = min(k, len(values))
    while (
        count < min(len(values), k + MOST_MATES)
        and values[count] >= values[min(k, len(values)) - 1] - mates * abs(values[0])
        and values[count] > 0.3 * values[0]
    ):
        count += 1
    leaders = _as(krylov.basis, vectors[:, :count].T) @ krylov.basis
    return leaders, float(values[:k].sum()), float(np.abs(values).max()), _crowd(krylov, k)


def _crowd(krylov: Krylov, k: int) -> Tensor:
    few = krylov.ritz()[1][:, -k - MOST_MATES :].sum(axis=1)  # (m,)
    return _as(krylov.basis, few) @ krylov.basis


def _known_better(leaders: Tensor, start: Tensor) -> Tensor:
    """Return the leaders (b, n), each replaced by its part in the span of ``start`` (a, n) if that is nearly all."""
    known = _orthonormal(start, start[:0])
    inside = dot(leaders, known).to(leaders.dtype) @ known
    alike = inside.double().square().sum(dim=1) > ALIKE
    return torch.where(alike[:, None], inside, leaders)


def _sum(one: Operator, other: Operator) -> Operator:
    return lambda v: one(v) + other(v)


def _as(like: Tensor, array: NDArray[np.float64]) -> Tensor:
    return torch.as_tensor(array.copy(), dtype=like.dtype, device=like.device)


def _rayleigh_ritz(basis: Tensor, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return Ritz values descending (m) and their coefficients as columns (m, m), in float64."""
    small = dot(basis, images).cpu().numpy()
    values, vectors = np.linalg.eigh((small + small.T) / 2)
    return values[::-1].copy(), vectors[:, ::-1].copy()


def _ritz_vectors(
    basis: Tensor, images: Tensor, theta: NDArray[np.float64], s: NDArray[np.float64]
) -> tuple[Tensor, Tensor]:
    """Return the first Ritz vectors u (j, n), one for each column of ``s`` (m, j), and Au − θu (j, n)."""
    weights = _as(basis, s.T)
    vectors = weights @ basis
    return vectors, weights @ images - _as(basis, theta[: len(weights)])[:, None] * vectors


def _orthonormal(block: Tensor, basis: Tensor) -> Tensor:
    """Return the rows of a block made orthonormal to each other and to a basis; dependent rows are dropped."""
    kept = basis
    for row in block:
        size = norm(row)
        if size == 0:
            continue
        row = project_out(row / size, kept)
        left = norm(row)
        if left > 1e-4:
            kept = torch.cat([kept, project_out(row / left, kept)[None]])
            kept[-1] /= norm(kept[-1])
    return kept[len(basis) :]
