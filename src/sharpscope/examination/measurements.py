"""The parts of an examination as they are measured one after another, each with what those before it found."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from sharpscope.curvature import Eigenpairs, spectral_density, top_eigenvalues
from sharpscope.curvature.probes import Probed, probe
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.estimate import Estimate
from sharpscope.examination.plan import (
    AUDIT_SAMPLES,
    PROBED,
    PROBES_FOR_SAMPLING,
    VECTORS_FOR_SAMPLING,
    Effort,
)
from sharpscope.examination.sampling import Draw, student
from sharpscope.landscape import Surface, surface
from sharpscope.measures import audit, average_direction_sharpness, worst_case_sharpness
from sharpscope.measures.average_direction import unit_direction
from sharpscope.objective import Objective
from sharpscope.report.numbers import listed, number

AVERAGE_RADII = (0.01, 0.03, 0.1)
"""Radii of the average direction as shares of the length of the weights: from where the loss is quadratic to where it
is not, for most networks."""

WORST_RADII = (0.002, 0.005, 0.01)
"""Radii of the adaptive worst case: the largest relative change of each weight."""


class PartByPart:
    """What is measured of an objective, part by part.

    ``drawn`` are the samples that it is over, None if it is over all the data. ``intervals`` are for all the data, by
    row; see `sharpscope.examination.sampling`.
    """

    def __init__(self, obj: Objective, drawn: Draw | None, effort: Effort, seed: int) -> None:
        self.obj, self.drawn, self.effort, self.seed = obj, drawn, effort, seed
        self.found: dict[str, Any] = {}
        self.intervals: dict[str, tuple[float, float]] = {}
        self.notes: list[str] = []
        self._parts: dict[str, Callable[[float | None], Any]] = {
            "eigenvalues": self._eigenvalues,
            **dict.fromkeys(PROBED, self._probes),
            "density": lambda time: spectral_density(
                obj, probes=effort.density[0], steps=effort.density[1], seed=seed, deadline=time
            ),
            "average_direction": self._average_direction,
            "worst_case": lambda time: _at_each(
                "worst case",
                WORST_RADII,
                lambda radius: worst_case_sharpness(
                    obj, radius, batch_size=None, restarts=1, seed=seed, deadline=_fraction(time, 3)
                ),
            ),
            "surface": self._surface,
            "audit": lambda time: audit(_few(obj), seed=seed, deadline=time),
        }

    def has(self, part: str) -> bool:
        """Say whether a part has been measured."""
        return part in self.found

    def measure(self, part: str, time: float | None) -> None:
        """Measure a part in about so many seconds, unless the products of another have given it already."""
        if part not in self.found:
            found = self._parts[part](time)
            self.found |= found if isinstance(found, dict) else {part: found}

    def sample_loss(self, loss: float) -> None:
        """Add the interval of the loss over all the data."""
        if self.drawn is not None:
            half = student(self.drawn.block_count - 1) * self.drawn.of_loss()
            self.intervals["loss"] = (loss - half, loss + half)

    def _eigenvalues(self, time: float | None) -> Eigenpairs:
        k = min(self.effort.k, max(1, self.obj.size // 2))
        found = top_eigenvalues(
            self.obj, k=k, which="both", tol=self.effort.tol, seed=self.seed, deadline=time
        )
        if self.drawn is not None:
            self.intervals |= zip(("lambda_1", "lambda_-1"), self.drawn.of_ends(found), strict=True)
        return found

    def _probes(self, time: float | None) -> dict[str, Any]:
        """Return the traces and ‖H‖_F, off the eigenvectors that are known."""
        pairs: Eigenpairs | None = self.found.get("eigenvalues")
        found: Probed = probe(
            self.obj,
            rtol=self.effort.rtol,
            frobenius_rtol=self.effort.rtol,
            max_samples=self.effort.most_probes,
            directions=None if pairs is None else pairs.vectors,
            seed=self.seed,
            deadline=time,
        )
        if self.drawn is not None:
            layers = found.by_layer
            whole, each = self.drawn.of_traces(PROBES_FOR_SAMPLING, self.seed)
            freedom = min(self.drawn.block_count, layers.probes) - 1
            assert found.trace.stderr is not None
            self.intervals["trace"] = _around(found.trace.value, found.trace.stderr, whole, freedom)
            for name, value, stderr, of_samples in zip(
                layers.names, layers.values, layers.stderrs, each, strict=True
            ):
                self.intervals[f"trace of {name}"] = _around(float(value), float(stderr), of_samples, freedom)
        return {"trace": found.trace, "frobenius_norm": found.frobenius_norm, "by_layer": found.by_layer}

    def _average_direction(self, time: float | None) -> tuple[Estimate, ...]:
        length = float(self.obj.flat().double().norm())
        if not length:
            raise InputError("its radii are shares of the weights' length, and the weights are all zero")
        radii = [share * length for share in AVERAGE_RADII]
        draws, width = self.effort.draws, self.effort.width
        found = _at_each(
            "average direction",
            radii,
            lambda radius: average_direction_sharpness(
                self.obj,
                radius,
                draws,
                relative_width=width,
                max_samples=draws,
                seed=self.seed,
                deadline=_fraction(time, len(radii)),
            ),
        )
        if self.drawn is not None:
            units = [unit_direction(self.obj, self.seed, i) for i in range(VECTORS_FOR_SAMPLING)]
            for estimate in found:
                radius = float(str(estimate.protocol["radius"]))
                spread = self.drawn.of_rises([radius * unit for unit in units])
                freedom = min(self.drawn.block_count, estimate.samples or 2) - 1
                self.intervals[row_name(estimate)] = _around(
                    estimate.value, estimate.stderr or 0.0, spread, freedom
                )
        return found

    def _surface(self, time: float | None) -> Surface:
        found = surface(self.obj, points=self.effort.points, radius=0.5, seed=self.seed, deadline=time)
        if not np.isfinite(found.losses).any():
            raise InputError("there was no time for its first point, or no loss in the plane is finite")
        return found


def _at_each(part: str, radii: Sequence[float], measure: Callable[[float], Estimate]) -> tuple[Estimate, ...]:
    """Return an estimate for each radius; warn once, naming the radii, of what went wrong at some of them.

    A radius that cannot be measured is left out with such a warning; its `InputError` is raised where none can be.
    """
    found: list[Estimate] = []
    said: dict[str, list[float]] = {}
    refused: InputError | None = None
    for radius in radii:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                found.append(measure(radius))
            except InputError as error:
                refused = error
                said.setdefault(f"not measured ({error})", []).append(radius)
        for warning in heard:
            if issubclass(warning.category, UserWarning):
                said.setdefault(str(warning.message).rpartition("sharpness: ")[2], []).append(radius)
    if refused is not None and not found:
        raise refused
    for message, where in said.items():
        at = f"radi{'us' if len(where) == 1 else 'i'} {listed(list(map(number, where)))}"
        warnings.warn(f"{part} at {at}: {message}", NotConvergedWarning, stacklevel=2)
    return tuple(found)


def row_name(estimate: Estimate) -> str:
    """Return the name that tells an estimate from others of its measure at other radii."""
    radius = estimate.protocol.get("radius")
    return estimate.measure if radius is None else f"{estimate.measure} at {radius:g}"


def _around(value: float, stderr: float, of_samples: float, freedom: int) -> tuple[float, float]:
    """Return a 95 % interval from the standard errors of the estimate over the samples and of their choice."""
    half = student(max(freedom, 1)) * math.hypot(stderr, of_samples)
    return value - half, value + half


def _fraction(time: float | None, count: int) -> float | None:
    return None if time is None else time / count


def _few(obj: Objective) -> Objective:
    """Return the objective on its first samples, or as it is where single samples cannot be told apart."""
    try:
        return obj.subset(torch.arange(min(AUDIT_SAMPLES, int(obj.n_samples))))
    except InputError:
        return obj
