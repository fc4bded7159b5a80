"""Spectral density of the Hessian by stochastic Lanczos quadrature."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.curvature.lanczos import lanczos
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory
from sharpscope.errors import InputError, NotConvergedWarning
from sharpscope.estimate import CostMeter, Result
from sharpscope.objective.objective import Objective
from sharpscope.objective.parameters import Selection
from sharpscope.objective.views import view_of
from sharpscope.seeding import generator


@dataclass(frozen=True)
class SpectralDensity(Result):
    """The Hessian's eigenvalue distribution as weighted nodes, one row per probe.

    Attributes
    ----------
    nodes, weights
        (probes, steps): each row a Gauss quadrature of the density, whose weights sum to 1.
    products, seconds
        What it cost.

    """

    nodes: NDArray[np.float64]
    weights: NDArray[np.float64]
    products: int
    seconds: float
    protocol: Mapping[str, object]
    fingerprint: str

    def __repr__(self) -> str:
        """Return one line: the range of the nodes, the probes and the products."""
        low, high = float(self.nodes.min()), float(self.nodes.max())
        return f"density of eigenvalues {low:.4g} … {high:.4g}, {len(self.nodes)} probes, {self.products:g} products"

    def moment(self, power: int) -> tuple[float, float]:
        """Return the mean over eigenvalues of λ^power, and its standard error over probes."""
        each = (self.weights * self.nodes**power).sum(1)
        return float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))

    def on_grid(
        self, points: int = 400, width: float | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return (grid, density, standard error over probes), each (points,), smoothed by a Gaussian.

        ``width`` is the Gaussian's standard deviation, by default a hundredth of the spectrum's range. The density
        integrates to 1.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        sigma = width or max((high - low) / 100, 1e-12)
        grid = np.linspace(low - 4 * sigma, high + 4 * sigma, points)
        bumps = np.exp(-0.5 * ((grid[None, None] - self.nodes[..., None]) / sigma) ** 2)
        each = (self.weights[..., None] * bumps).sum(1) / (sigma * np.sqrt(2 * np.pi))  # (probes, points)
        return grid, each.mean(0), each.std(0, ddof=1) / np.sqrt(len(each))


def spectral_density(
    obj: Objective,
    *,
    probes: int = 10,
    steps: int = 60,
    seed: int = 0,
    memory: Memory = None,
    matrix: Matrix = "hessian",
    params: Selection = None,
    preconditioner: torch.Tensor | None = None,
    normalise_logits: bool = False,
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> SpectralDensity:
    """Estimate the density of the Hessian's eigenvalues by stochastic Lanczos quadrature.

    From each of ``probes`` random unit vectors, ``steps`` Lanczos steps, fully reorthogonalised, give the Gauss
    quadrature of that vector's spectral measure, whose expectation is the density (Ubaru, Chen & Saad 2017). The
    first 2 · steps − 1 moments of each measure are exact.

    ``matrix="ggn"`` takes the Gauss-Newton matrix, as for `top_eigenvalues`; ``params``, ``preconditioner`` and
    ``normalise_logits`` choose what is measured, see `sharpscope.objective.views.view_of`. ``deadline``, ``progress``
    and ``on_interrupt`` are as there: what is returned early has fewer probes, with a warning.

    Raises `InputError` for fewer than 2 probes or steps, or a deadline that passes before two probes are done.

    Examples
    --------
    >>> model = torch.nn.Linear(2, 1, bias=False).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> density = spectral_density(Objective(model, half_square, (x, torch.zeros(2, 1))), steps=2)
    >>> sorted({round(node, 6) for node in density.nodes.ravel().tolist()})
    [1.0, 3.0]

    """
    if probes < 2 or steps < 2:
        raise InputError(f"probes and steps must be at least 2, received {probes} and {steps}; raise them")
    obj, chosen = view_of(
        obj, params=params, preconditioner=preconditioner, normalise_logits=normalise_logits
    )
    cost, before = CostMeter(), obj.cost.products
    steps, done = min(steps, obj.size), 0
    nodes, weights = np.empty((probes, steps)), np.empty((probes, steps))
    limits = CallLimits("spectral_density", obj, deadline, progress, on_interrupt, expected=probes * steps)
    with CurvatureProducts(limits.over, memory, matrix) as product, limits.until_it_ends():

        def counted(vector: torch.Tensor) -> torch.Tensor:
            image = product(vector)
            limits.count(1, f"{done} of {probes} probes")
            return image

        for i in range(probes):
            draws = generator("density", seed, i)

            def gaussian(draws: torch.Generator = draws) -> torch.Tensor:
                return obj.layout.normal(draws, torch.float64).to(obj.device, obj.dtype)

            values, vectors, _ = lanczos(counted, gaussian(), steps, gaussian).ritz()
            nodes[i], weights[i] = values, vectors[0] ** 2
            done += 1
    if done < 2:
        raise InputError(
            f"spectral_density must be given time for at least two probes, here {limits.ended}; raise the deadline, "
            "or ask for fewer steps"
        )
    if done < probes:
        warnings.warn(
            f"{limits.ended} after {done} of {probes} probes; raise the deadline",
            NotConvergedWarning,
            stacklevel=2,
        )
    return SpectralDensity(
        nodes[:done],
        weights[:done],
        products=obj.cost.products - before,
        seconds=cost.seconds,
        protocol={
            "algorithm": "lanczos quadrature",
            "matrix": matrix,
            "probes": done,
            "steps": steps,
            "seed": seed,
            **chosen,
            **obj.protocol,
        },
        fingerprint=obj.fingerprint,
    )
