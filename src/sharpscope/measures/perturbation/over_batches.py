"""m-sharpness: the mean over random batches of m samples of what is measured on each (Foret et al. 2021, 4.1)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext

import torch

from sharpscope.curvature.call_limits import CallLimits
from sharpscope.errors import InputError, NonFiniteError, NotConvergedWarning
from sharpscope.estimate import CostMeter, Estimate
from sharpscope.objective.objective import Objective
from sharpscope.seeding import generator


def over_batches(
    measure: str,
    obj: Objective,
    values_of: Callable[[Iterable[Objective]], Iterable[float]],
    batch_size: int | None,
    restarts: int,
    seed: int,
    protocol: Mapping[str, object],
    limits: CallLimits | None = None,
) -> Estimate:
    """Return the mean of ``values_of`` over ``restarts`` batches of m = ``batch_size`` samples, with standard error.

    ``values_of`` yields one value for each objective that it is given, in order. Batches are drawn without
    replacement, batch i from (seed, i) alone: all measures use the same batches. With None, or all the samples, the
    value is the single one on all the data. Costs are in passes over the data. Raises `InputError` for a batch size
    or number of batches out of range. Where the ``limits`` of the call end it, the batches so far count.
    """
    _check(obj, batch_size, restarts)
    cost = CostMeter(obj)
    sampled = batch_size is not None and batch_size != obj.n_samples

    def batches() -> Iterator[Objective]:
        if batch_size is None or not sampled:
            yield obj
            return
        for restart in range(restarts):
            order = torch.randperm(int(obj.n_samples), generator=generator("worst_case", seed, restart))
            part = obj.subset(order[:batch_size])
            cost.include(part, batch_size / obj.n_samples)
            yield part

    draws = list[float]()
    with nullcontext() if limits is None else limits.until_it_ends():
        for value in values_of(batches()):
            draws.append(value)
    if limits is not None and limits.ended:
        if len(draws) < 2:
            raise InputError(
                f"{limits.call} must be given time for at least {'two batches' if sampled else 'its ascent'}, here "
                f"{limits.ended}; raise the deadline, or take fewer steps"
            )
        warnings.warn(
            f"{limits.ended} after {len(draws)} of {restarts} batches; raise the deadline",
            NotConvergedWarning,
            stacklevel=3,
        )
    protocol = {**protocol, "batch_size": batch_size, "restarts": len(draws), "seed": seed, **obj.protocol}
    if sampled:
        whole = len(draws) == restarts
        return Estimate.of_samples(measure, draws, cost.total(), protocol, obj.fingerprint, whole)
    (value,) = draws
    return Estimate(
        measure,
        value,
        converged=math.isfinite(value),
        cost=cost.total(),
        protocol=protocol,
        fingerprint=obj.fingerprint,
    )


def rise(base: float, highest: float) -> float:
    """Return how far the highest loss that an ascent found lies above that of its start, never below zero.

    Raises `NonFiniteError` where the start's loss is not finite.
    """
    if not math.isfinite(base):
        raise NonFiniteError(
            f"loss and gradient must be finite at the measured parameters, the loss there is {base:g}; "
            "the run has diverged or the inputs are not scaled: measure an earlier checkpoint"
        )
    return max(highest - base, 0.0)


def _check(obj: Objective, batch_size: int | None, restarts: int) -> None:
    if batch_size is None:
        return
    if restarts < 2:
        raise InputError(
            f"restarts must be at least 2 for a standard error over batches, received {restarts}; raise it"
        )
    if not 1 <= batch_size <= obj.n_samples:
        raise InputError(
            f"batch_size must lie between 1 and the number of samples {obj.n_samples:g}, "
            f"received {batch_size}; lower it or pass None for all the data"
        )
