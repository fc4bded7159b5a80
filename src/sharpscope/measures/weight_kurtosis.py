"""How heavy-tailed a layer's weights are: their kurtosis, and the histogram to look at (coldenhoff2022, C7)."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sharpscope.errors import InputError
from sharpscope.estimate import CostMeter, Estimate, Result
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective


@register(
    "weight_kurtosis",
    title="Kurtosis of a layer's weights",
    symbol="m₄/m₂²",
    definition="Fourth central moment over the squared variance of one layer's weights, the first unless stated: 3 "
    "for normal weights, more for heavier tails.",
    source="coldenhoff2022",
    unit="",
    cost="none",
)
def weight_kurtosis(obj: Objective, parameter: str = "first") -> Estimate:
    """Return the kurtosis m₄ / m₂² of one parameter's n entries, m_k = Σ (w − w̄)^k / n.

    It is 3 for normal weights, 1.8 for uniform ones and more for heavier tails; the excess kurtosis is 3 less. It
    has no unit and needs no pass over the data. ``parameter`` is the parameter's name in the model; ``"first"`` means
    the first one of at least two dimensions: the first convolution's kernels, or the first weight matrix.

    Raises
    ------
    InputError
        For a name that the model has not, or a parameter whose entries are all equal.

    Examples
    --------
    >>> import torch
    >>> from sharpscope import Objective
    >>> model = torch.nn.Linear(4, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([-3.0, -1.0, 1.0, 3.0]))
    >>> obj = Objective(model, torch.nn.functional.mse_loss, (torch.eye(4), torch.ones(4, 1)))
    >>> round(weight_kurtosis(obj).value, 6)
    1.64

    """
    cost = CostMeter()
    name, weights = _entries(obj, parameter)
    centred = weights - weights.mean()
    variance = float((centred**2).mean())
    if not variance > 0:
        raise InputError(
            f"a kurtosis needs entries that differ, those of {name!r} are all {weights[0]:g}; name another parameter"
        )
    return Estimate(
        "weight_kurtosis",
        float((centred**4).mean()) / variance**2,
        cost=cost.total(),
        protocol={"parameter": name, "entries": len(weights), "definition": "m4 / m2^2", **obj.protocol},
        fingerprint=obj.fingerprint,
    )


@dataclass(frozen=True)
class WeightHistogram(Result):
    """How many entries of a ``parameter`` lie in each bin: ``counts`` (bins,) between ``edges`` (bins + 1)."""

    parameter: str
    counts: NDArray[np.int64]
    edges: NDArray[np.float64]

    def __repr__(self) -> str:
        """Return one line: the parameter, its entries and the bins."""
        low, high = float(self.edges[0]), float(self.edges[-1])
        bins = f"{len(self.counts)} bins from {low:.3g} to {high:.3g}"
        return f"{self.parameter}: {int(self.counts.sum())} entries in {bins}"


def weight_histogram(
    obj: Objective, parameter: str = "first", bins: int = 101, limit: float | None = None
) -> WeightHistogram:
    """Return how many entries of a parameter lie in each of ``bins`` equal bins spanning −``limit`` … ``limit``.

    The limit is the largest magnitude by default; histograms that are to be compared need the same limit. With an odd
    number of bins one of them is centred on zero. Raises `InputError` as `weight_kurtosis`, and for fewer than one
    bin or a limit that some entry exceeds.

    >>> import torch
    >>> from sharpscope import Objective
    >>> model = torch.nn.Linear(4, 1, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([-3.0, -0.5, 0.5, 3.0]))
    >>> obj = Objective(model, torch.nn.functional.mse_loss, (torch.eye(4), torch.ones(4, 1)))
    >>> weight_histogram(obj, bins=3).counts.tolist()
    [1, 2, 1]
    """
    name, weights = _entries(obj, parameter)
    largest = float(np.abs(weights).max())
    reach = largest if limit is None else limit
    if bins < 1 or not (math.isfinite(reach) and reach >= largest and reach > 0):
        raise InputError(
            f"bins must be at least 1 and limit at least {largest:g}, the largest magnitude in {name!r}, received "
            f"{bins} and {limit}; leave them out"
        )
    counts, edges = np.histogram(weights, bins, (-reach, reach))
    return WeightHistogram(name, counts, edges)


def _entries(obj: Objective, parameter: str) -> tuple[str, NDArray[np.float64]]:
    """Return a parameter's name and its entries at the measured point."""
    named: dict[str, Tensor] = dict(obj.model.named_parameters())
    named |= obj.layout.split(obj.flat())
    name = parameter
    if parameter == "first":
        name = next((n for n, p in named.items() if p.ndim > 1), parameter)
    if name not in named:
        close = difflib.get_close_matches(name, named, n=1) or list(named)[:3]
        raise InputError(
            f"parameter must be one of the model's own, received {name!r}; perhaps {', '.join(close)} is meant"
        )
    return name, named[name].detach().double().flatten().cpu().numpy()
