"""The loss on the line through two models, and how wide the basin at either end is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.errors import InputError, require_one_of, require_positive
from sharpscope.estimate import Result
from sharpscope.landscape.points import Points
from sharpscope.landscape.progress import Ledger
from sharpscope.objective.objective import Objective

if TYPE_CHECKING:
    import pandas as pd

Statistics = Literal["recomputed", "frozen"]


@dataclass(frozen=True)
class BasinWidth:
    """The width of the basin around one end of the line: where the loss is at most ``rise`` above that end's loss.

    ``alpha`` is the length of the connected interval of α around the end where L ≤ L(end) + rise; its edges are
    interpolated linearly between the sampled points. ``distance`` is the same length in units of the parameters,
    alpha · ‖θ_b − θ_a‖, and ``interval`` holds the two edges. ``complete`` is False where an edge lies beyond the
    sampled α; the width is then a lower bound.
    """

    alpha: float
    distance: float
    rise: float
    complete: bool
    interval: tuple[float, float] = (math.nan, math.nan)


@dataclass(frozen=True)
class Interpolation(Result):
    """Loss and accuracy at θ(α) = (1 − α) θ_a + α θ_b.

    ``own_losses`` are the ends' losses with the running statistics stored in the models. With frozen statistics the
    curve equals them at α = 0 and 1; with recomputed statistics it differs by the error of the stored statistics.
    """

    alphas: NDArray[np.float64]
    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]
    distance: float
    own_losses: tuple[float, float]
    protocol: Mapping[str, object] = field(default_factory=dict)
    fingerprint: str = ""

    def __repr__(self) -> str:
        """Return one line: the ends' losses and the largest between them."""
        inside = self.losses[(self.alphas >= 0) & (self.alphas <= 1)]
        top = f", at most {float(inside.max()):.4g} between them" if len(inside) else ""
        return f"line between losses {self.own_losses[0]:.4g} and {self.own_losses[1]:.4g}{top}"

    def basin_width(self, end: Literal["a", "b"], rise: float = 0.1) -> BasinWidth:
        """Return the basin's width at an end: see `BasinWidth`.

        Raises `InputError` where the end is not among the sampled points or ``rise`` is not positive.

        >>> alphas = np.linspace(-1, 2, 301)
        >>> line = Interpolation(alphas, alphas**2, alphas * np.nan, 2.0, (0.0, 1.0))
        >>> width = line.basin_width("a", rise=0.25)
        >>> round(width.alpha, 3), round(width.distance, 3), width.complete
        (1.0, 2.0, True)
        """
        require_positive("rise", rise, "for example 0.1")
        here = np.flatnonzero(np.isclose(self.alphas, {"a": 0.0, "b": 1.0}[end], atol=1e-12))
        if not len(here):
            raise InputError(
                f"the width at end {end} needs α = {0 if end == 'a' else 1} among the points; add it"
            )
        level = self.losses[here[0]] + rise
        low, whole_low = self._edge(int(here[0]), -1, level)
        high, whole_high = self._edge(int(here[0]), 1, level)
        complete = whole_low and whole_high
        return BasinWidth(high - low, (high - low) * self.distance, rise, complete, (low, high))

    def _edge(self, index: int, step: int, level: float) -> tuple[float, bool]:
        while 0 <= index + step < len(self.alphas):
            a, b = self.losses[index], self.losses[index + step]
            if not b <= level:  # also where it is NaN
                share = (level - a) / (b - a) if math.isfinite(b) else 0.0
                return float(
                    self.alphas[index] + share * (self.alphas[index + step] - self.alphas[index])
                ), True
            index += step
        return float(self.alphas[index]), False

    def table(self) -> pd.DataFrame:
        """Return columns alpha, loss, accuracy."""
        import pandas as pd

        return pd.DataFrame({"alpha": self.alphas, "loss": self.losses, "accuracy": self.accuracies})


def interpolate(
    model_a: nn.Module,
    model_b: nn.Module,
    obj: Objective,
    alphas: Sequence[float] | Tensor | None = None,
    *,
    batch_norm: Statistics = "recomputed",
    partial: Path | str | None = None,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> Interpolation:
    """Return the loss and accuracy at (1 − α) θ_a + α θ_b (Goodfellow et al. 2015; jastrzebski2018, figures 2 and 3).

    Both models are evaluated on ``obj``'s data and loss, in eval mode. Neither they nor ``obj``'s model are changed.

    Parameters
    ----------
    alphas
        Points, sorted; 61 from −1 to 2 by default. 0 and 1 are added where missing.
    batch_norm
        ``"recomputed"``: running statistics are recomputed on ``obj``'s data at every point, since the statistics of
        neither end fit the points between them. ``"frozen"``: they are interpolated linearly between those of the
        ends; a negative variance counts as 0.
    partial
        A file in which evaluated points are kept; a later call with the same request continues from them.
    deadline, progress, on_interrupt
        As for `sharpscope.top_eigenvalues`, the unit a point. What is returned early has NaN at the points that were
        not evaluated, with a warning; with ``partial`` the same call goes on from there.

    Raises
    ------
    InputError
        If the models differ in parameters or buffers, an α is not finite, or ``partial`` holds another request.

    """
    require_one_of("batch_norm", batch_norm, get_args(Statistics))
    grid = np.linspace(-1, 2, 61) if alphas is None else np.asarray(alphas, dtype=np.float64)
    if grid.ndim != 1 or not np.isfinite(grid).all():
        raise InputError(
            "alphas must be a list of finite numbers; pass for example numpy.linspace(-1, 2, 61)"
        )
    grid = np.unique(np.concatenate([np.round(grid, 12), [0.0, 1.0]]))
    ends = [_state(model, obj) for model in (model_a, model_b)]
    theta = [_flat(state, obj) for state in ends]
    limits = CallLimits("interpolate", obj, deadline, progress, on_interrupt, unit="point")
    points = Points(limits.over, recompute=False)
    own = list[float]()
    with limits.until_it_ends():
        own += [points.evaluate(t, s)[0] for t, s in zip(theta, ends, strict=True)]
    if not own:
        raise InputError(
            f"interpolate must be given time for the two ends, here {limits.ended}; raise the deadline"
        )
    points.recompute = batch_norm == "recomputed" and bool(points.norms)
    fixed = {
        name: ends[0][name] for name, _ in points.model.named_parameters() if name not in obj.layout.names
    }
    differing = [name for name, value in fixed.items() if not torch.equal(value, ends[1][name])]
    if differing:
        raise InputError(
            f"parameters outside the measured ones must be equal in both models, {differing[0]} differs; "
            "measure all of them with params='*'"
        )
    request: dict[str, object] = {
        "kind": "interpolation",
        "fingerprint": obj.fingerprint,
        "own": own,
        "ends": [float(t.double().norm()) for t in theta],
        "alphas": grid.tolist(),
        "batch_norm": batch_norm,
    }

    def at(index: int) -> tuple[float, float | None]:
        alpha = float(grid[index])
        buffers = {
            name: _between(name, ends[0][name], ends[1][name], alpha)
            for name, buffer in points.model.named_buffers()
            if name in ends[0] and buffer.is_floating_point()
        }
        return points.evaluate((1 - alpha) * theta[0] + alpha * theta[1], buffers)

    values = Ledger(partial, request).run(at, len(grid), limits)
    return Interpolation(
        grid,
        np.array([loss for loss, _ in values]),
        np.array([math.nan if accuracy is None else accuracy for _, accuracy in values]),
        float((theta[1] - theta[0]).double().norm()),
        (own[0], own[1]),
        {"batch_norm": batch_norm if points.norms else "none", **obj.protocol, "mode": "eval"},
        obj.fingerprint,
    )


def _between(name: str, a: Tensor, b: Tensor, alpha: float) -> Tensor:
    mixed = (1 - alpha) * a + alpha * b
    return mixed.clamp(min=0) if name.endswith("running_var") else mixed


def _state(model: nn.Module, obj: Objective) -> dict[str, Tensor]:
    model = getattr(model, "_orig_mod", model)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    state = {
        name: tensor.detach().to(obj.device, obj.dtype if tensor.is_floating_point() else None).clone()
        for name, tensor in named.items()
    }
    wanted = {n: t.shape for n, t in [*obj.model.named_parameters(), *obj.model.named_buffers()]}
    if {n: t.shape for n, t in state.items()} != wanted:
        raise InputError(
            f"both models must have the parameters of the objective's, {type(model).__name__} differs from "
            f"{type(obj.model).__name__}; build them by the same factory"
        )
    return state


def _flat(state: dict[str, Tensor], obj: Objective) -> Tensor:
    return obj.layout.join(state[name] for name in obj.layout.names)
