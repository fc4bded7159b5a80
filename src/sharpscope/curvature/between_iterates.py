"""λ_max along one optimizer step."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.curvature.eigenvalues import Eigenpairs, top_eigenvalues
from sharpscope.curvature.operators import Memory
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.estimate import Result
from sharpscope.objective.objective import Objective


@dataclass(frozen=True)
class BetweenIterates(Result):
    """λ_max at evenly spaced points of a segment, both ends included.

    ``value`` is the largest (kaur2022's rule for networks with batch normalisation); ``values``, ``errors`` and
    ``converged`` (points,) belong to the ``positions`` α in [0, 1].
    """

    positions: NDArray[np.float64]
    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    converged: NDArray[np.bool_]
    products: float
    protocol: Mapping[str, object]
    fingerprint: str

    def __repr__(self) -> str:
        """Return one line: the largest λ_max and where it lies."""
        where = float(self.positions[int(self.values.argmax())])
        return f"λ_max between iterates at most {self.value:.5g}, at {where:.3g} of the step"

    @property
    def value(self) -> float:
        """The largest λ_max on the segment."""
        return float(self.values.max())


def between_iterates(
    obj: Objective,
    next_parameters: Tensor,
    points: int = 8,
    *,
    tol: float = 1e-3,
    seed: int = 0,
    memory: Memory = None,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> BetweenIterates:
    """Return λ_max(∇²L((1 − α) θ + α θ′)) at ``points`` evenly spaced α in [0, 1].

    θ are the model's parameters, θ′ = ``next_parameters`` (size,), for example after one more optimizer step. With
    batch normalisation the curvature at an iterate and on the way to the next differ by orders of magnitude, and the
    maximum on the way is what a rate responds to (kaur2022, section 5; Cohen et al. 2021, appendix). Each point
    starts from the eigenvector of the one before.

    ``deadline``, ``progress`` and ``on_interrupt`` are those of `top_eigenvalues`; what is returned early has fewer
    points.

    Raises `InputError` for fewer than 2 points or a vector of another length.
    """
    if points < 2:
        raise InputError(f"points must be at least 2, the two iterates, received {points}; the paper's is 8")
    here = obj.flat()
    there = next_parameters.detach().to(here)
    obj.layout.split(there)
    positions = np.linspace(0.0, 1.0, points)
    values, errors = np.empty(points), np.empty(points)
    converged = np.empty(points, dtype=bool)
    start: Eigenpairs | None = None
    products, done = 0.0, 0
    limits = CallLimits(
        "between_iterates", obj, deadline, progress, on_interrupt, unit="point", expected=points
    )
    with limits.until_it_ends():
        for i, alpha in enumerate(positions):
            limits.check()
            at = limits.over.at((1 - alpha) * here + alpha * there)
            e = top_eigenvalues(at, 1, "largest", tol, seed, start=start, memory=memory)
            values[i], errors[i], converged[i] = e.value, e.error_estimates[0], e.converged[0]
            start, products, done = e, products + e.products, i + 1
            limits.count(1)
    if done < points:
        if not done:
            raise InputError(
                f"between_iterates must be given time for one point, here {limits.ended}; raise the deadline"
            )
        warnings.warn(
            f"{limits.ended} after {done} of {points} points; raise the deadline",
            NotConvergedWarning,
            stacklevel=2,
        )
        positions, values, errors, converged = (
            part[:done] for part in (positions, values, errors, converged)
        )
    obj.cost.products += round(products)
    protocol = {"points": done, "tol": tol, "seed": seed, **obj.protocol}
    return BetweenIterates(positions, values, errors, converged, products, protocol, obj.fingerprint)
