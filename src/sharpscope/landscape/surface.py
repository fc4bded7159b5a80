"""Two-dimensional slices of the loss around a model, in filter-normalised directions or its trajectory's plane."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError, require_one_of, require_positive
from sharpscope.estimate import Result
from sharpscope.landscape.interpolation import Statistics
from sharpscope.landscape.points import Points
from sharpscope.landscape.progress import Ledger
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

ORTHONORMAL = 1e-6
"""Largest deviation of the directions' inner products from the identity matrix that is accepted."""


@dataclass(frozen=True)
class Surface(Result):
    """Loss and accuracy at θ + x·s₁ e₁ + y·s₂ e₂ with orthonormal e₁, e₂ (2, size) and lengths s (2,).

    ``x`` (columns) and ``y`` (rows) are in units of s. For filter-normalised directions s is the norm of the weights
    that are perturbed: at distance 1 the perturbation is as large as the weights. ``losses`` and ``accuracies`` have
    shape (len(y), len(x)). ``trajectory`` (k, 2) holds given weights projected onto the plane in the same units, and
    ``explained`` is the share of their squared distance from θ that lies in the plane.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    directions: Tensor
    lengths: tuple[float, float]
    trajectory: NDArray[np.float64] | None = None
    explained: float | None = None
    protocol: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""

    def __repr__(self) -> str:
        """Return one line: the grid and the range of its losses."""
        finite = self.losses[np.isfinite(self.losses)]
        span = f"{float(finite.min()):.4g} … {float(finite.max()):.4g}" if finite.size else "none finite"
        return f"surface of {len(self.x)} × {len(self.y)} points, losses {span}"

    def table(self) -> pd.DataFrame:
        """Return columns x, y, loss, accuracy, one row per point."""
        import pandas as pd

        x, y = np.meshgrid(self.x, self.y)
        columns = {"x": x, "y": y, "loss": self.losses, "accuracy": self.accuracies}
        return pd.DataFrame({name: values.ravel() for name, values in columns.items()})


def surface(
    obj: Objective,
    *,
    radius: float = 1.0,
    points: int = 21,
    directions: Literal["random", "trajectory"] = "random",
    trajectory: Sequence[Tensor] | None = None,
    batch_norm: Statistics = "recomputed",
    seed: int = 0,
    partial: Path | str | None = None,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Surface:
    """Return the loss on a square grid of a plane through the model (Li et al. 2018).

    Parameters
    ----------
    radius
        The grid spans −radius … radius in both directions; for ``"trajectory"`` more where the trajectory is longer.
    points
        Points along each side; an odd number, so that the model itself is one of them.
    directions
        ``"random"``: see `filter_normalised_directions`. ``"trajectory"``: the two principal directions of
        ``trajectory`` around the model.
    trajectory
        Earlier weights as flat vectors (size,), oldest first, as `Objective.flat` returns them. They are projected
        onto the plane.
    batch_norm, partial, deadline, progress, on_interrupt
        As in `sharpscope.interpolate`.

    Raises
    ------
    InputError
        For a radius or number of points out of range, a trajectory that is missing or spans no plane, or directions
        that are not orthonormal to 1e-6.

    """
    require_positive("radius", radius, "for example 1.0")
    if points < 3 or points % 2 == 0:
        raise InputError(f"points must be odd and at least 3, received {points}; for example 21")
    require_one_of("batch_norm", batch_norm, get_args(Statistics))
    require_one_of("directions", directions, ("random", "trajectory"))
    theta = obj.flat()
    path = None if trajectory is None else torch.stack([t.to(theta) - theta for t in trajectory])  # (k, size)
    scaled = filter_normalised_directions(obj, seed) if directions == "random" else _principal(path)
    lengths = [float(d.double().norm()) for d in scaled]
    basis = torch.stack([d / length for d, length in zip(scaled, lengths, strict=True)])  # (2, size)
    gram = (basis.double() @ basis.double().T - torch.eye(2, device=basis.device)).abs().max()
    if not float(gram) <= ORTHONORMAL:
        raise InputError(
            f"a surface's directions must be orthonormal to {ORTHONORMAL:g}, these are off by {float(gram):.2g}; "
            "measure more parameters or choose another seed"
        )
    projected = explained = None
    reach = [radius, radius]
    if path is not None:
        inside = (path.double() @ basis.double().T).cpu().numpy()  # (k, 2)
        explained = float((inside**2).sum() / path.double().square().sum())
        projected = inside / np.array(lengths)
        if directions == "trajectory":
            reach = [max(radius, 1.1 * float(np.abs(projected[:, i]).max())) for i in range(2)]
    x, y = (np.linspace(-r, r, points) for r in reach)
    limits = CallLimits("surface", obj, deadline, progress, on_interrupt, unit="point")
    at = Points(limits.over, batch_norm == "recomputed")
    buffers = {name: buffer.detach().clone() for name, buffer in obj.model.named_buffers()}
    request: dict[str, object] = {
        "kind": "surface",
        "fingerprint": obj.fingerprint,
        "x": x.tolist(),
        "y": y.tolist(),
        "batch_norm": batch_norm,
        "directions": [
            directions,
            seed,
            [float(v) for v in lengths],
            [float(d.double().sum()) for d in basis],
        ],
    }

    def evaluate(index: int) -> tuple[float, float | None]:
        row, column = divmod(index, points)
        move = float(x[column]) * lengths[0] * basis[0] + float(y[row]) * lengths[1] * basis[1]
        return at.evaluate(theta + move, buffers)

    values = Ledger(partial, request).run(evaluate, points * points, limits)
    return Surface(
        x,
        y,
        np.array([loss for loss, _ in values]).reshape(points, points),
        np.array([math.nan if a is None else a for _, a in values]).reshape(points, points),
        basis,
        (lengths[0], lengths[1]),
        projected,
        explained,
        {
            "directions": directions,
            "seed": seed,
            "batch_norm": batch_norm if at.norms else "none",
            **obj.protocol,
        },
        obj.fingerprint,
    )


def filter_normalised_directions(obj: Objective, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return two orthogonal random directions (size,) whose filters have the norms of the weights' (Li et al. 2018).

    A filter is the set of weights that makes one output: a row of a matrix, a kernel of a convolution. The second
    direction is made orthogonal to the first within every filter before both are scaled, so that both have the
    filters' norms and are orthogonal as a whole. Biases and normalisation's weights (tensors of one dimension) are
    not perturbed, as in the paper; a filter of a single weight is perturbed along the first direction only.
    """
    draws = [
        torch.randn(obj.size, generator=generator("surface", seed, i), dtype=torch.float64) for i in range(2)
    ]
    flat = obj.layout.split(obj.flat())
    firsts, seconds = [], []
    for name, a, b in zip(flat, *(obj.layout.split(d).values() for d in draws), strict=True):
        weights = flat[name].double().cpu()
        if weights.ndim < 2:
            firsts.append(torch.zeros_like(a))
            seconds.append(torch.zeros_like(b))
            continue
        w, a, b = (t.reshape(len(t), -1) for t in (weights, a, b))  # (filters, weights of one)
        own = w.norm(dim=1, keepdim=True)
        a = a / a.norm(dim=1, keepdim=True)
        b = b - (a * b).sum(1, keepdim=True) * a
        b = b - (a * b).sum(1, keepdim=True) * a  # a second time, against rounding
        b = torch.zeros_like(b) if b.shape[1] == 1 else b / b.norm(dim=1, keepdim=True)
        firsts.append((own * a).reshape(-1))
        seconds.append((own * b).reshape(-1))
    both = [obj.layout.join(parts).to(obj.device, obj.dtype) for parts in (firsts, seconds)]
    if not all(bool(d.any()) for d in both):
        raise InputError(
            "a surface needs weights of at least two dimensions that are not zero, the measured ones have none; "
            "measure more parameters"
        )
    return both[0], both[1]


def _principal(path: Tensor | None) -> tuple[Tensor, Tensor]:
    if path is None or len(path) < 2:
        raise InputError(
            "directions='trajectory' needs at least two earlier weights, received "
            f"{0 if path is None else len(path)}; pass trajectory=[flat vectors] or directions='random'"
        )
    values, vectors = torch.linalg.eigh((path.double() @ path.double().T).cpu())  # small: (k, k)
    if float(values[-2]) <= 1e-12 * float(values[-1]):
        raise InputError("a trajectory must span a plane, this one lies on a line; pass directions='random'")
    top = vectors[:, [-1, -2]].T.to(path.device) @ path.double()  # (2, size)
    unit = top / top.norm(dim=1, keepdim=True)
    return unit[0].to(path.dtype), unit[1].to(path.dtype)
