"""Which layers carry the curvature: the trace of every layer's block, and each layer's share of an eigenvector."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.curvature.call_limits import CallLimits, OnInterrupt, Progress
from sharpscope.curvature.operators import CurvatureProducts, Matrix, Memory
from sharpscope.errors import InputError
from sharpscope.estimate import Result, with_error
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


@dataclass(frozen=True)
class LayerTraces(Result):
    """Traces of the Hessian's diagonal blocks, one for every layer (layers,).

    ``names`` are the modules that hold the parameters, ``sizes`` how many parameters each holds, ``values`` the
    estimates of tr H_ℓℓ, ``stderrs`` their standard errors over ``probes`` random probes.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    values: NDArray[np.float64]
    stderrs: NDArray[np.float64]
    probes: int

    def __repr__(self) -> str:
        """Return one line: how many layers, and the one with the largest trace."""
        first = int(np.argmax(self.values))
        value = with_error(float(self.values[first]), float(self.stderrs[first]))
        return f"traces of {len(self.names)} layers, the largest {value} in {self.names[first]}"

    def intervals(self, level: float = 0.95) -> NDArray[np.float64]:
        """Return Student's intervals with ``probes`` − 1 degrees of freedom, (layers, 2)."""
        from scipy.stats import t

        half = float(t.ppf(0.5 + level / 2, self.probes - 1)) * self.stderrs
        return np.stack([self.values - half, self.values + half], 1)


def layers_of(obj: Objective) -> dict[str, list[str]]:
    """Return the measured parameters of every module that holds some, in the order of the model.

    A parameter that lies at the top of the model belongs to the layer of its own name.
    """
    layers: dict[str, list[str]] = {}
    for name in obj.layout.names:
        module, _, _ = name.rpartition(".")
        layers.setdefault(module or name, []).append(name)
    return layers


def trace_by_layer(
    obj: Objective,
    *,
    probes: int = 16,
    seed: int = 0,
    memory: Memory = None,
    matrix: Matrix = "hessian",
    deadline: float | None = None,
    progress: Progress = None,
    on_interrupt: OnInterrupt = "raise",
) -> LayerTraces:
    """Estimate the trace of every layer's diagonal block of the Hessian, all layers from the same products.

    For a probe z of independent random signs, E zᵀHz = tr H (Hutchinson 1990). The part of zᵀ(Hz) that belongs to a
    layer's own parameters has the expectation tr H_ℓℓ, since signs of different layers are independent with mean 0.
    So ``probes`` products serve all layers at once. Units: the loss's per squared unit of the parameters.

    ``deadline``, ``progress`` and ``on_interrupt`` are those of `top_eigenvalues`; what is returned early has fewer
    probes. Raises `InputError` for fewer than 2 probes.

    Examples
    --------
    A layer that is quadratic with a diagonal Hessian has no error:

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 1, bias=False)).double()
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]], dtype=torch.float64)
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> found = trace_by_layer(Objective(model, half_square, (x, torch.zeros(2, 1))), probes=2)
    >>> found.names, found.values.round(6).tolist(), found.stderrs.round(6).tolist()
    (('0',), [4.0], [0.0])

    """
    if probes < 2:
        raise InputError(f"probes must be at least 2, received {probes}; 16 give a first impression")
    layers = layers_of(obj)
    draws, done = np.empty((probes, len(layers))), 0
    limits = CallLimits("trace_by_layer", obj, deadline, progress, on_interrupt, expected=probes)
    with CurvatureProducts(limits.over, memory, matrix) as product, limits.until_it_ends():
        for i in range(probes):
            z = obj.layout.signs(generator("by layer", seed, i)).to(obj.device, obj.dtype)  # (size,)
            parts = obj.layout.split((z * product(z)).double())
            draws[i] = [math.fsum(float(parts[name].sum()) for name in names) for names in layers.values()]
            done += 1
            limits.count(1)
    if done < 2:
        raise InputError(
            f"trace_by_layer must be given time for at least two probes, here {limits.ended}; raise the deadline"
        )
    draws = draws[:done]
    sizes = obj.layout.split(obj.flat())
    return LayerTraces(
        tuple(layers),
        tuple(sum(sizes[name].numel() for name in names) for names in layers.values()),
        draws.mean(0),
        draws.std(0, ddof=1) / math.sqrt(done),
        done,
    )


def shares_by_layer(obj: Objective, vectors: Tensor) -> NDArray[np.float64]:
    """Return the share of each unit vector's squared length that lies in each layer, (k, layers)."""
    shares: list[Sequence[float]] = []
    for vector in vectors:
        parts = obj.layout.split(vector.double())
        whole = float(vector.double().square().sum())
        shares.append(
            [
                sum(float(parts[name].square().sum()) for name in names) / whole
                for names in layers_of(obj).values()
            ]
        )
    return np.array(shares)
