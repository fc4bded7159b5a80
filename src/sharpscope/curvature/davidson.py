"""The search with a model: generalised Davidson, and a probe of all the data that the model preconditions.

Let A be the Hessian over all the data, of size n. The model is a symmetric matrix B = Σ λ y yᵀ of low rank that is
something like A: the Ritz pairs of the Hessian over a subset of the data, or those that an earlier search left.

Values. A basis V of orthonormal rows begins with B's leading vectors. For every wanted Ritz pair (θ, u) with
residual r = A u − θ u the correction t = (θ − P B P)⁻¹ r, P projecting off V, joins V (Davidson 1975; Morgan & Scott
1986). In the basis [V, V⊥] an outer eigenvalue is λ = θ + rᵀ(λ − D)⁻¹ r exactly, with D = P A P. With B for A it
reads rᵀt, which predicts what is still missing of θ. The prediction is as good as the model is like A.

Certificate. Let U be Ritz vectors, P project off them, D = P A P, and B from here on P B P. For any μ above B's
eigenvalues let M = (1 − B/μ)^(−1/2) and F = M (D − B) M / μ. Then

    F ≤ f  if and only if  D ≤ B + f (μ − B), hence  D ≤ f μ + (1 − f) B                                     (1)

A Lanczos run on F from a random vector bounds F's largest eigenvalue (`certificate.upper_limit`), so (1) bounds D's,
and with U's residuals those of A (`certificate.coupled_bounds`). Where B is like A, F is small and the bound comes
after a few steps: four where the run on D itself takes eight. A wrong model costs products, never truth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sharpscope.autograd.vectors import dot, norm, project_out
from sharpscope.curvature.certificate import coupled_bounds, missed_probability, upper_limit
from sharpscope.curvature.lanczos import Krylov, like
from sharpscope.curvature.spectral_model import INDEPENDENT, SpectralModel
from sharpscope.curvature.wanted import Array, Operator, Outcome, rounding

SAFETY = 4.0
"""Factor on what the model says is missing, which a part's noise makes too small: with 1 two, with 2 one of twelve
values of trained perceptrons on 8 000 images were off by more than claimed, with 4 none."""

CLAIM = 0.3
"""No smaller share of the tolerance is claimed as an error on a model's word: such predictions were not checked."""

ALIKE = 0.7
"""Least ratio, either way, of the curvature along the leading vectors by the model and on all the data; beyond it the
model is no likeness and the search ends. Along the leading vector of 256 uniform samples of a trained VGG-11 the
ratio is 0.15, along that of 400 drawn by importance it is 1."""

BESIDE = 5
"""Most Ritz vectors beside the wanted ones that a probe is deflated by. It is deflated by as few as serve: others
have large residuals and take of the model what it knows along them. With 0 or 2 some probes cannot begin and the
search is given up: 15.8 products in place of 10.5."""

READY = 0.2
"""A probe begins when a limit would certify that lies this share of the way from what the model has off the Ritz
vectors to the last wanted value. Mean products for one eigenvalue of two perceptrons on 8 000 Fashion-MNIST images,
three seeds each: 10.5 with 0.1, 0.2 and 0.35. Every product count beside a constant here is of these."""

ACCURATE = 0.25
"""Before a probe the errors predicted are brought to this share of the tolerance: with small residuals the limit may
lie closer to the value. With 1 12.2 products, with 0.25 and 0.06 10.5; for three eigenvalues 15.6, 15.9 and 16.3."""

MOST_STEPS = 12
"""Steps after which a probe ends without a certificate: with a model like the matrix it takes four to seven."""

MOST_RUNS, MOST_PRODUCTS, MOST_EACH = 2, 20, 6
"""Probes, and products (so many and more for each eigenvalue), after which the search is given up for one without a
model: on the networks above one probe sufficed."""


@dataclass
class DeflatedProbe:
    """A Lanczos run on F off Ritz vectors U (j, n) with values Θ (j,) and coupling C, see the module.

    ``goal`` is the limit of D that certifies, and μ. ``seen`` holds the vectors multiplied and their images under A.
    """

    block: Tensor
    values: Array
    coupling: Array
    goal: float
    model: SpectralModel
    krylov: Krylov
    seen: list[tuple[Tensor, Tensor]]

    def extend(self, operator: Operator) -> None:
        """Multiply one vector."""
        v = self.krylov.following
        x = self.model.root(self.goal, v)
        image = operator(x)
        self.seen.append((x, image))
        left = project_out(image, self.block) - self.model(x)
        self.krylov.extend(self.model.root(self.goal, left) / self.goal)

    @property
    def left(self) -> int:
        """The dimension that the start vector is random in."""
        return self.block.shape[1] - len(self.block)

    def limit(self, level: float) -> float:
        """Return what D's eigenvalues exceed with at most the probability ``level``."""
        f = upper_limit(self.krylov.alphas, self.krylov.betas, level, self.left)
        return self.model.limit(f, self.goal)

    @property
    def hopeless(self) -> bool:
        """Whether F has an eigenvalue for which (1) cannot give the goal."""
        return bool(
            self.krylov.ritz()[0][-1] >= 1
            or self.krylov.steps >= min(MOST_STEPS, self.left)
            or self.krylov.closed
        )


class ModelSearch:
    """Solver with a state for the k largest eigenvalues; ``step`` until ``outcome`` is no longer "running".

    Parameters
    ----------
    operator
        A.
    level
        The probability with which the errors may be wrong; None certifies nothing and takes the model's word.
    summed
        Samples whose products are summed one after another, see `sharpscope.curvature.wanted.rounding`.

    """

    def __init__(
        self,
        operator: Operator,
        model: SpectralModel,
        k: int,
        tol: float,
        fresh: Callable[[], Tensor],
        level: float | None,
        summed: int = 0,
    ) -> None:
        self.summed = summed
        self.operator, self.model, self.k, self.tol, self.fresh, self.level = (
            operator,
            model,
            k,
            tol,
            fresh,
            level,
        )
        self.outcome: Outcome | Literal["gave up"] = "running"
        self.products = self.runs = 0
        self.most = MOST_PRODUCTS + MOST_EACH * k
        self.probe: DeflatedProbe | None = None
        self.bounds: Array | None = None
        block, claimed = model.leading(k)
        self.basis, self.images = block[:0], block[:0]
        self._small = np.zeros((0, 0))
        self._across = np.zeros((len(model.values), 0))  # of the model's vectors and the basis
        self._multiply(block)
        seen = float(np.trace(self._small))
        alike = len(self.basis) == k and 0 < ALIKE * claimed.sum() <= seen <= claimed.sum() / ALIKE
        if not alike:
            self.outcome = "gave up"
            return
        self._rayleigh_ritz()
        if level is None:
            self._see()

    # -- the basis ----------------------------------------------------------------------------------

    def _multiply(self, block: Tensor) -> int:
        """Let the part of the rows (b, n) that lies outside the basis join it, with its image; return how many."""
        before = self.products
        for row in block:
            left = project_out(row / norm(row), self.basis)
            if norm(left) > 1e-4:
                left = project_out(left / norm(left), self.basis)
                left = left / norm(left)
                self._join(left, self.operator(left))
                self.products += 1
        return self.products - before

    def _join(self, vector: Tensor, image: Tensor) -> None:
        self.basis, self.images = torch.cat([self.basis, vector[None]]), torch.cat([self.images, image[None]])
        column = dot(self.basis, image).cpu().numpy()
        m = len(column)
        small = np.zeros((m, m))
        small[: m - 1, : m - 1] = self._small
        small[-1], small[:, -1] = column, column
        self._small = small
        self._across = np.hstack([self._across, dot(self.model.vectors, vector).cpu().numpy()[:, None]])

    def _take_in(self, seen: list[tuple[Tensor, Tensor]]) -> None:
        """Let vectors join the basis whose images are known."""
        for x, image in seen:
            size = norm(x)
            x, image = x / size, image / size
            for _ in range(2):
                inside = dot(self.basis, x).to(x.dtype)
                x, image = x - inside @ self.basis, image - inside @ self.images
            if (size := norm(x)) > INDEPENDENT:
                self._join(x / size, image / size)

    # -- one step -----------------------------------------------------------------------------------

    def step(self) -> None:
        """Multiply a vector of the probe, or corrections, and see whether that is enough."""
        if self.probe is None and self.level is not None and self.products:
            self.probe = self._plan()
            self.runs += self.probe is not None
        if self.probe is not None:
            self._follow(self.probe)
        else:
            self._correct()
        if self.probe is None:
            self._rayleigh_ritz()
            self._see()

    def _see(self) -> None:
        """Say whether the search is over."""
        if (self.errors <= self._target).all():
            within = (self.errors <= self.tol * np.abs(self.values)).all()
            self.outcome = "finished" if within else "limited by precision"
        elif self.runs >= MOST_RUNS or self.products >= self.most:
            self.outcome = "gave up"

    def _follow(self, probe: DeflatedProbe) -> None:
        """Multiply one vector of the probe; when it ends, its vectors join the basis."""
        probe.extend(self.operator)
        self.products += 1
        assert self.level is not None
        bounds = coupled_bounds(probe.values, probe.coupling, probe.limit(self.level / 2**self.runs), self.k)
        self.bounds = bounds if self.bounds is None else np.minimum(self.bounds, bounds)
        if (bounds <= self._allowed(probe.values)).all() or probe.hopeless:
            self._take_in(probe.seen)
            self.probe = None

    def _allowed(self, values: Array) -> Array:
        """Return the bounds (k,) within which the first of some Ritz values (j,) count as known."""
        first = values[: self.k]
        return np.asarray(first + np.maximum(self.tol * np.abs(first), 2 * self.rounding) - self.rounding)

    def _correct(self) -> None:
        """Multiply what the model says is missing of the wanted Ritz vectors, or what it has left."""
        outermost, tops = self._deflated.leading(1)
        ritz = self._theta[: self.k]
        steeper = len(tops) and tops[0] > ritz[-1]
        share = 1.0 if self.level is None else ACCURATE
        worse = SAFETY * self.missing + self.rounding > share * self._target
        additions = (
            [outermost[0]]
            if steeper
            else [
                self._deflated.solve(float(t), r)[0]
                for t, r, more in zip(ritz, self.remainder, worse, strict=True)
                if more
            ]
        )
        if not additions and len(tops) and tops[0] > 0:
            additions = [outermost[0]]
        if not additions or not self._multiply(torch.stack(additions)):
            self._multiply(self.fresh()[None])

    def _plan(self) -> DeflatedProbe | None:
        """Return a probe off as few Ritz vectors as could certify, or None where none could yet."""
        last = float(self._theta[self.k - 1])
        most = min(len(self._theta), self.k + BESIDE)
        vectors, remainder = self._ritz(most)
        gram = dot(remainder, remainder).cpu().numpy()
        for j in range(self.k, most + 1):
            expected = max(self.model.top_off(self._across @ self._turn[:, :j]), *self._theta[j : j + 1], 0.0)
            if expected >= last:
                continue
            squares, turn = np.linalg.eigh(gram[:j, :j])
            coupling = np.sqrt(np.maximum(squares, 0.0))[:, None] * turn.T
            goal = self._goal(self._theta[:j], coupling, expected + READY * (last - expected), last)
            if goal is not None:
                block = vectors[:j]
                model = self.model.deflated(block).clipped(goal)
                return DeflatedProbe(
                    block, self._theta[:j], coupling, goal, model, Krylov(self.fresh(), block), []
                )
        return None

    def _goal(self, theta: Array, coupling: Array, low: float, high: float) -> float | None:
        """Return the largest limit of D from ``low`` up to ``high`` that certifies the wanted, None without one."""
        allowed = self._allowed(theta)

        def certifies(limit: float) -> bool:
            return bool((coupled_bounds(theta, coupling, limit, self.k) <= allowed).all())

        if low <= 0 or not certifies(low):
            return None
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (middle, high) if certifies(middle) else (low, middle)
        return low

    # -- what is known ------------------------------------------------------------------------------

    def _rayleigh_ritz(self) -> None:
        """Take the Ritz pairs of the basis, outermost first, and what the model says is missing of them."""
        theta, turn = np.linalg.eigh((self._small + self._small.T) / 2)
        self._theta, self._turn = theta[::-1].copy(), turn[:, ::-1].copy()
        size, epsilon = float(np.abs(theta).max(initial=0.0)), torch.finfo(self.basis.dtype).eps
        self.rounding = rounding(epsilon, size, self.summed)
        self.vectors, self.remainder = self._ritz(self.k)
        self.residuals = self.remainder.double().norm(dim=1).cpu().numpy()
        self._deflated = self.model.deflated(self.basis)
        ritz = self._theta[: self.k]
        self.missing = np.minimum(
            [self._deflated.solve(float(t), r)[1] for t, r in zip(ritz, self.remainder, strict=True)],
            self.residuals,
        )
        # what the model says is missing is a part of the value where only the model is asked
        self.values = ritz + self.missing if self.level is None else ritz

    def _ritz(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first Ritz vectors u (w, n) and A u − θ u (w, n)."""
        weights = like(self.basis, self._turn[:, :count].T)
        vectors = weights @ self.basis
        return vectors, weights @ self.images - like(self.basis, self._theta[:count])[:, None] * vectors

    @property
    def errors(self) -> Array:
        """How far the wanted eigenvalues may be from the values (k,): bounds, or predictions without a level."""
        if self.level is not None:
            bounds = np.full(len(self.values), np.inf) if self.bounds is None else self.bounds
            return np.asarray(np.maximum(bounds - self.values, 0.0) + self.rounding)
        steeper = max(float(self._deflated.values.max(initial=-np.inf) - self._theta[self.k - 1]), 0.0)
        claimed = CLAIM * self.tol * np.abs(self.values)
        predicted = np.minimum(SAFETY * self.missing, self.residuals)
        return np.asarray(np.maximum(np.maximum(predicted, steeper), claimed) + self.rounding)

    @property
    def _target(self) -> Array:
        """The errors asked for (k,), or what precision allows."""
        return np.asarray(np.maximum(self.tol * np.abs(self.values), 2 * self.rounding))

    @property
    def confidence(self) -> float:
        """The least probability that no wanted eigenvalue is off by more than the tolerance; NaN without a level."""
        if self.level is None:
            return float("nan")
        if self.outcome in ("finished", "limited by precision"):
            return 1 - self.level
        if self.probe is None or not self.probe.krylov.steps:
            return 0.0
        krylov, reach = self.probe.krylov, float(self.values.min())
        f = (reach + self.tol * abs(reach)) / self.probe.goal
        if f <= 1:
            return 0.0
        return 1 - missed_probability(krylov.alphas, krylov.betas, f, self.probe.left)

    def found_model(self, count: int) -> SpectralModel:
        """Return the leading of the Ritz pairs and of what the model has off them, for a search that follows."""
        ritz, rest = self._ritz(len(self._theta))[0], self._deflated
        both = SpectralModel(torch.cat([ritz, rest.vectors]), np.concatenate([self._theta, rest.values]))
        vectors, values = both.leading(count)
        return SpectralModel(vectors.bfloat16(), values)
