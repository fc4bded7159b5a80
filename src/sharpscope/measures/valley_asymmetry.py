"""Asymmetry of the valley: how differently the loss rises in a direction and in its opposite."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sharpscope.errors import require_at_least, require_positive
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.measures.average_direction import unit_direction
from sharpscope.measures.perturbation.batched import losses_at
from sharpscope.measures.registry import register
from sharpscope.objective.objective import Objective


@register(
    "valley_asymmetry",
    title="Asymmetry of the valley",
    symbol="E |a − b| / (|a| + |b|)",
    definition="Mean over random directions of the difference of the rises to both sides, relative to their sum.",
    source="after He et al. 2019",
    unit="",
    cost="101 losses",
)
def valley_asymmetry(obj: Objective, radius: float = 1.0, samples: int = 100, seed: int = 0) -> Estimate:
    """Return E_u |a − b| / (|a| + |b|), a = L(θ + ρu) − L(θ), b = L(θ − ρu) − L(θ), u uniform unit directions.

    It lies in [0, 1]: 0 where both sides rise alike, 1 where one side is flat or falls while the other rises. He et
    al. call a direction asymmetric where its slope is small on one side and a multiple of that on the other; this
    index puts a number on it and needs no thresholds, and is not in the paper. Directions are those of
    `sharpscope.average_direction_sharpness`. A direction along which the loss does not change counts as 0. Raises
    `InputError` for a radius that is not positive or fewer than 4 samples.
    """
    require_positive("radius", radius, "for example 1.0")
    require_at_least("samples", samples, 4, "a standard error needs two directions")
    cost = CostMeter(obj)
    centre, base, count = obj.flat(), obj.loss(), samples // 2

    def points() -> Iterator[Tensor]:
        for index in range(count):
            step = radius * unit_direction(obj, seed, index)
            yield centre + step
            yield centre - step

    rises = [value - base for value in losses_at(obj, points())]
    draws = []
    for a, b in zip(rises[::2], rises[1::2], strict=True):
        total = abs(a) + abs(b)
        draws.append(abs(a - b) / total if total else 0.0)
    return Estimate.of_samples(
        "valley_asymmetry",
        draws,
        cost.total(),
        {"radius": radius, "samples": 2 * count, "seed": seed, **obj.protocol},
        obj.fingerprint,
    )
