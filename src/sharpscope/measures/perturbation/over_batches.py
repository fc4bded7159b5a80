"""m-sharpness: the mean over random batches of m samples of what is measured on each (Foret et al. 2021, 4.1)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy

import torch

from sharpscope.errors import InputError
from sharpscope.estimate import Estimate
from sharpscope.objective.objective import Objective, Spent
from sharpscope.seeding import generator


def over_batches(
    measure: str,
    obj: Objective,
    take: Callable[[Iterable[Objective]], Iterable[float]],
    batch_size: int | None,
    restarts: int,
    seed: int,
    protocol: Mapping[str, object],
) -> Estimate:
    """Return the mean of ``take`` over ``restarts`` batches of m = ``batch_size`` samples, with its standard error.

    ``take`` gives a value for each objective it is handed, in order. Batches are drawn without replacement, batch i
    from (seed, i) alone: the same for every measure. With None, or all the samples, it is the one value on all the
    data. Costs are in passes over the data. Raises `InputError` for a batch size or number of batches out of range.
    """
    _check(obj, batch_size, restarts)
    began, before = time.perf_counter(), copy(obj.spent)
    spent: list[Spent] = []

    def batches() -> Iterator[Objective]:
        if batch_size is None or batch_size == obj.n_samples:
            yield obj
            return
        for restart in range(restarts):
            order = torch.randperm(int(obj.n_samples), generator=generator("worst_case", seed, restart))
            part = obj.subset(order[:batch_size])
            spent.append(part.spent)
            yield part

    draws = list(take(batches()))
    share = (batch_size or 0) / obj.n_samples
    cost = {**obj.spent.since(before), "seconds": time.perf_counter() - began}
    cost["losses"] += share * sum(one.losses for one in spent)
    cost["gradients"] += share * sum(one.gradients for one in spent)
    said = {**protocol, "batch_size": batch_size, "restarts": len(draws), "seed": seed, **obj.protocol}
    if spent:
        return Estimate.of_samples(measure, draws, cost, said, obj.fingerprint)
    (value,) = draws
    return Estimate(
        measure, value, converged=math.isfinite(value), cost=cost, protocol=said, fingerprint=obj.fingerprint
    )


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
