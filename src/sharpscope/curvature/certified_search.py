"""A search for extreme eigenvalues that also says how sure it is to have missed none.

The state is a block U of Ritz vectors with residuals R = A U − U Θ, at first none, and a Lanczos run from a random
vector on what is left, D = (I − UUᵀ) A (I − UUᵀ). Each step multiplies one vector by A. Ritz values come from all
vectors together; they lie below the eigenvalues that they stand for. Upper bounds come from U alone: the run bounds
D's eigenvalues (`certificate.upper_limit`), and U's residuals say what D can add (`certificate.coupled_bounds`). The
search is finished when no wanted eigenvalue can lie further than the tolerance above its Ritz value.

For one eigenvalue an end U stays empty, and the search is Lanczos that stops when (2) of `certificate` says so. More
than one can only be certified off vectors already found: once the Ritz pairs are accurate, they become U, and a
deflated probe, a run from a fresh random vector off them, looks for what was missed. What it finds joins in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm
from sharpscope.curvature.certificate import coupled_bounds, missed_probability, upper_limit
from sharpscope.curvature.lanczos import Krylov, like
from sharpscope.curvature.spectral_model import SpectralModel
from sharpscope.curvature.wanted import Array, Assessment, Operator, Outcome, Wanted, rounding

ACCURATE, LOOSEST = 0.3, 1e-3
"""Ritz pairs are accurate enough to be deflated when their residuals are at most this share of the tolerance, or of
this tolerance where a looser one is asked for. With a share of 1 a probe off the five largest of 300 uniform
eigenvalues ended in 330 products, with 0.3 in 190; pairs deflated at residuals of 1e-2 leave close eigenvalues to the
probe, which finds them more slowly (eight within 1 %: 64 products in place of 28)."""

BESIDE = 10
"""Most accurate Ritz vectors beside the wanted ones that are deflated too: the probe of LeNet-5 takes eight steps off
one vector, five off three, four off six."""

REST = 0.5
"""A run that would fill the whole space within this share of the steps it has taken is not cut short for a probe."""


def fewest(k: int) -> int:
    """Return the least number of vectors that a search for k eigenvalues keeps."""
    return 3 * k + 8


class CertifiedSearch:
    """Solver with a state; see the module. ``step`` until ``outcome`` is no longer "running".

    Parameters
    ----------
    operator
        The matrix A of size n.
    fresh
        Gives random vectors (n,), standard normal.
    start
        Rows (b, n) to begin from, an earlier search's eigenvectors for example, or none (0, n).
    room
        Most vectors kept at once; a run that fills it goes on from its Ritz vectors (thick restart).
    certify
        False ends the search as soon as the residuals are within the tolerance: nothing then says that no larger
        eigenvalue was missed but the ``confidence`` that this gives.

    """

    def __init__(
        self,
        operator: Operator,
        wanted: Wanted,
        fresh: Callable[[], Tensor],
        start: Tensor,
        room: int,
        certify: bool = True,
        summed: int = 0,
    ) -> None:
        self.certify, self.summed = certify, summed
        self.operator, self.wanted, self.fresh = operator, wanted, fresh
        self.size = start.shape[-1]
        self.room = min(max(room, fewest(wanted.k)), self.size)
        self.epsilon = float(torch.finfo(start.dtype).eps)
        self.products = self.runs = 0
        self.outcome: Outcome = "running"
        self.assessment: Assessment | None = None
        self._deflate(start[:0], start[:0])
        # the sum holds something of each; what it lacks, and copies, are left to the probe
        begin = torch.nn.functional.normalize(start.double(), dim=1).sum(0).to(start.dtype)
        if len(start) and norm(begin) > 0:
            self._run(begin, random=False)
        else:
            self._run(fresh(), random=True)

    # -- the state --------------------------------------------------------------------------------

    def _deflate(self, vectors: Tensor, residuals: Tensor, values: Array | None = None) -> None:
        """Take U (j, n), A U − U Θ (j, n) and Θ (j,) as the state's block."""
        self._block, self._residuals = vectors, residuals
        self._values = np.zeros(0) if values is None else values
        self._gram = dot(residuals, residuals).cpu().numpy() if len(vectors) else np.zeros((0, 0))
        self._coupling = _square_root(self._gram)

    def _run(self, start: Tensor, *, random: bool) -> None:
        """Begin a Lanczos run off U; only one from a random vector says what it may have missed."""
        self._krylov = Krylov(start, self._block, max(self.room - len(self._block), 1))
        self._random = random
        self.runs += random
        self._between: list[Array] = []  # Rᵀ v for every v of the run: columns (j,)

    # -- one step ---------------------------------------------------------------------------------

    def step(self) -> None:
        """Multiply one vector, and see whether that is enough."""
        krylov = self._krylov
        vector = krylov.following
        image = self.operator(vector)
        self._between.append(dot(self._residuals, vector).cpu().numpy())
        krylov.extend(image)
        self.products += 1
        if not (self._due() or krylov.closed or self._full()):
            return
        self.assessment = found = self.assess()
        if found.enough:
            within = (found.errors <= self._target(found.values)).all()
            self.outcome = "finished" if within else "limited by precision"
        elif self._whole():
            self.outcome = "limited by precision"
        elif (
            krylov.closed
            or self._full()
            or (found.accurate and not found.in_reach and not self._nearly_whole())
        ):
            self._restart(found)

    def _due(self) -> bool:
        """Look at every step at first, later at every twentieth part: a look costs (j + m)³."""
        m = self._krylov.steps
        return m % (1 + m // 20) == 0

    def _full(self) -> bool:
        return len(self._block) + self._krylov.steps >= self.room

    def _whole(self) -> bool:
        return len(self._block) + self._krylov.steps >= self.size

    def _nearly_whole(self) -> bool:
        left = self.size - len(self._block) - self._krylov.steps
        return self.room >= self.size and left <= REST * self._krylov.steps

    def _restart(self, found: Assessment) -> None:
        """Take Ritz vectors as U: the wanted, and others that are accurate; all that matter where memory is full."""
        ritz, vectors = np.linalg.eigh(self._projected())
        sizes = self._residual_sizes(vectors)
        chosen = self.wanted.chosen(ritz)
        wanted = np.concatenate(list(chosen.values())).tolist()
        others = [
            int(i)
            for end in self.wanted.ends
            for i in (np.arange(len(ritz))[::-1] if end > 0 else np.arange(len(ritz)))[
                : self.wanted.k + BESIDE
            ]
            if i not in wanted
        ]
        continued = not (found.accurate or self._krylov.closed)
        if continued:
            kept = wanted + others[: max(self.room // 3 - len(wanted), 0)]
        else:
            kept = wanted + self._harmless(ritz, vectors, wanted, sorted(others, key=lambda i: sizes[i]))
        kept = list(dict.fromkeys(kept))
        following = self._krylov.following
        self._deflate(*self._combined(vectors[:, kept], ritz[kept]), ritz[kept])
        self._run(following if continued else self.fresh(), random=not continued)

    def _harmless(self, ritz: Array, vectors: Array, kept: list[int], others: list[int]) -> list[int]:
        """Return which other Ritz vectors can be deflated without loosening the bounds of the wanted.

        What is left of A may still reach up to the last wanted value; the bounds must hold all the same.
        """
        gram = self._residual_gram(vectors)
        added: list[int] = []
        for other in dict.fromkeys(others):
            tried = [*kept, *added, other]
            coupling = _square_root(gram[np.ix_(tried, tried)])
            fine = True
            for end in self.wanted.ends:
                outermost = np.sort(end * ritz[kept])[::-1]
                count = len(self.wanted.chosen(ritz)[end])
                if count == 0:
                    continue
                bounds = coupled_bounds(end * ritz[tried], end * coupling, outermost[count - 1], count)
                fine = fine and bool(
                    (bounds - outermost[:count] <= ACCURATE * self._target(outermost[:count])).all()
                )
            if fine:
                added.append(other)
            if len(added) >= BESIDE:
                break
        return added

    # -- what is known ----------------------------------------------------------------------------

    def assess(self) -> Assessment:
        """Return the wanted Ritz values, their residuals and errors as they stand."""
        ritz, vectors = np.linalg.eigh(self._projected())
        chosen = self.wanted.chosen(ritz)
        bounds, limits = self._bounds(chosen)
        indices = np.concatenate(list(chosen.values()))
        values = ritz[indices]
        missing = np.concatenate(
            [bounds[e][: len(chosen[e])] - e * ritz[chosen[e]] for e in self.wanted.ends]
        )
        best = np.concatenate([limits[e][: len(chosen[e])] - e * ritz[chosen[e]] for e in self.wanted.ends])
        if self.wanted.which == "magnitude":
            order = np.argsort(-np.abs(values), kind="stable")
            indices, values, missing, best = indices[order], values[order], missing[order], best[order]
            # what either end may hold beside those chosen must not exceed the least of them
            least = float(np.abs(values).min())
            missing = np.maximum(missing, max(bounds[e][len(chosen[e])] for e in self.wanted.ends) - least)
            best = np.maximum(best, max(limits[e][len(chosen[e])] for e in self.wanted.ends) - least)
        if self._whole():
            missing = np.zeros(len(values))
        sizes = self._residual_sizes(vectors[:, indices])
        floor = self.rounding
        gaps = np.abs(ritz[indices][:, None] - ritz) + np.where(
            indices[:, None] == np.arange(len(ritz)), np.inf, 0.0
        )
        seen = np.minimum(sizes, sizes**2 / np.maximum(gaps.min(axis=1), np.finfo(np.float64).tiny))
        # a start vector that hardly contains the wanted vector is improbable but shows, while its value still rises
        missing = np.maximum(missing, seen) if self.certify else np.minimum(missing, sizes)
        each = [len(chosen[end]) for end in self.wanted.ends]
        known = min(each) if self.wanted.which == "both" else sum(each)
        complete = known >= min(self.wanted.k, self.size)
        errors = np.maximum(missing, 0.0) + floor
        asked = np.maximum(self._target(values), 2 * floor)
        return Assessment(
            values=values,
            coefficients=vectors[:, indices],
            residuals=sizes,
            errors=errors,
            confidence=self._confidence(values, errors),
            enough=bool(complete and (errors <= asked).all()),
            accurate=bool(complete and (sizes <= self._accuracy(values)).all()),
            in_reach=bool(self._random and complete and (np.maximum(best, 0) + floor <= asked).all()),
        )

    def _bounds(self, chosen: dict[float, NDArray[np.intp]]) -> tuple[dict[float, Array], dict[float, Array]]:
        """Return upper bounds of the wanted eigenvalues of each end, one more of each: as they are, as they can get.

        A run's bound for D falls towards its largest Ritz value and never below it.
        """
        krylov = self._krylov
        top = np.linalg.eigvalsh(krylov.tridiagonal)
        bounds, limits = {}, {}
        for end in self.wanted.ends:
            count = len(chosen[end]) + 1
            limit = np.inf
            if self._random and krylov.steps:
                level = (1 - self.wanted.confidence) / 2**self.runs / len(self.wanted.ends)
                left = self.size - len(self._block)
                limit = upper_limit(end * krylov.alphas, krylov.betas, level, left)
            args = end * self._values, end * self._coupling
            lowest = float(top[-1] if end > 0 else -top[0]) if krylov.steps else np.inf
            limits[end] = (
                coupled_bounds(*args, lowest, count) if np.isfinite(lowest) else np.full(count, np.inf)
            )
            bounds[end] = (
                coupled_bounds(*args, limit, count) if np.isfinite(limit) else np.full(count, np.inf)
            )
        return bounds, limits

    def _confidence(self, values: Array, errors: Array) -> float:
        """Return the probability, at least, that no wanted eigenvalue is off by more than the tolerance."""
        if self._whole():
            return 1.0
        if not self._random or not self._krylov.steps or len(values) == 0:
            return 0.0
        if self.certify and (errors <= np.maximum(self._target(values), 2 * self.rounding)).all():
            return self.wanted.confidence
        missed = 0.0
        for end in self.wanted.ends:
            reach = float((end * values).min() if self.wanted.which != "magnitude" else np.abs(values).min())
            krylov, left = self._krylov, self.size - len(self._block)
            missed += missed_probability(
                end * krylov.alphas, krylov.betas, reach + self.wanted.tol * abs(reach), left
            )
        return max(0.0, 1.0 - missed)

    @property
    def rounding(self) -> float:
        """What the precision leaves unknown of an eigenvalue; ‖A‖ as far as it is known."""
        size = float(np.abs(np.linalg.eigvalsh(self._projected())).max())
        return rounding(self.epsilon, size, self.summed)

    def _target(self, values: Array) -> Array:
        return np.asarray(self.wanted.tol * np.abs(values))

    def _accuracy(self, values: Array) -> Array:
        """Return the residuals (w,) at which Ritz vectors are worth deflating."""
        share = min(ACCURATE * self.wanted.tol, LOOSEST) if self.certify else self.wanted.tol
        known = self._krylov.steps if hasattr(self, "_krylov") else 0
        floor = self.rounding if known else self.epsilon * float(np.abs(self._values).max(initial=0.0))
        return np.maximum(share * np.abs(values), 2 * floor)

    # -- the small matrices -----------------------------------------------------------------------

    def _projected(self) -> Array:
        """Return A in the basis [U, V]: (j + m, j + m)."""
        j, m = len(self._values), self._krylov.steps
        small = np.zeros((j + m, j + m))
        small[:j, :j] = np.diag(self._values)
        small[j:, j:] = self._krylov.tridiagonal
        if j and m:
            between = np.stack(self._between, axis=1)  # (j, m)
            small[:j, j:], small[j:, :j] = between, between.T
        return small

    def _residual_gram(self, vectors: Array) -> Array:
        """Return the inner products of the residuals of [U, V] s, for the columns s (j + m, w) of ``vectors``.

        The residual is what of R s_U lies outside V, and the coupling to the vector that follows.
        """
        j = len(self._values)
        if not self._krylov.steps:
            return np.asarray(vectors.T @ self._gram @ vectors)
        last = self._krylov.betas[-1] * vectors[-1]  # (w,)
        gram = np.outer(last, last)
        if j:
            between = np.stack(self._between, axis=1)
            upper = vectors[:j]
            following = (
                dot(self._residuals, self._krylov.following).cpu().numpy() if not self._krylov.closed else 0.0
            )
            along = upper.T @ (following * np.ones(j))
            gram = gram + upper.T @ (self._gram - between @ between.T) @ upper
            gram = gram + np.outer(along, last) + np.outer(last, along)
        return np.asarray(gram)

    def _residual_sizes(self, vectors: Array) -> Array:
        return np.sqrt(np.maximum(np.diag(self._residual_gram(vectors)), 0.0))

    def _combined(self, coefficients: Array, values: Array) -> tuple[Tensor, Tensor]:
        """Return Ritz vectors u (w, n) with the given coefficients (j + m, w) and A u − θ u (w, n).

        Nothing is multiplied anew: A V = V T + β v + U Rᵀ V, v being the vector that follows.
        """
        j, krylov = len(self._values), self._krylov
        upper, lower = coefficients[:j], coefficients[j:]
        if not krylov.steps:
            weights = like(self._block, upper.T)
            return weights @ self._block, weights @ self._residuals
        vectors = like(self._block, lower.T) @ krylov.basis
        along = lower.T @ krylov.tridiagonal - values[:, None] * lower.T  # (w, m)
        last = krylov.betas[-1] * lower[-1]
        residuals = (
            like(self._block, along) @ krylov.basis + like(self._block, last)[:, None] * krylov.following
        )
        if j:
            between = np.stack(self._between, axis=1)
            on_block = upper.T * self._values - values[:, None] * upper.T + lower.T @ between.T  # (w, j)
            vectors = vectors + like(self._block, upper.T) @ self._block
            residuals = (
                residuals
                + like(self._block, on_block) @ self._block
                + like(self._block, upper.T) @ self._residuals
            )
        return vectors, residuals

    @property
    def known(self) -> bool:
        """Whether anything has been multiplied."""
        return bool(self._krylov.steps or len(self._values))

    def found_models(self, count: int) -> dict[float, SpectralModel]:
        """Return for every end the outermost Ritz pairs, for a search that follows."""
        ritz, turn = np.linalg.eigh(self._projected())
        models = {}
        for end in self.wanted.ends:
            order = np.argsort(-end * ritz, kind="stable")[:count]
            rows = self._combined(turn[:, order], ritz[order])[0]
            models[end] = SpectralModel(rows.bfloat16(), ritz[order])
        return models

    def vectors(self, found: Assessment) -> Tensor:
        """Return the wanted Ritz vectors (w, n)."""
        return self._combined(found.coefficients, found.values)[0]


def _square_root(gram: Array) -> Array:
    """Return C (r, j) with CᵀC = G for inner products G (j, j)."""
    if len(gram) == 0:
        return np.zeros((0, 0))
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    return np.asarray(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T)
