"""Learning rate schedules, as functions of the epoch alone.

A schedule has no state: the rate of an epoch follows from the configuration, so a resumed run cannot
disagree with an uninterrupted one.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from sharpscope.serialization import StrictConfig

_KEYS = {
    "constant": (),
    "multistep": ("milestones", "gamma"),
    "every": ("n", "gamma"),
    "cosine": ("epochs", "min_lr"),
}


class ScheduleConfig(StrictConfig):
    """How the learning rate moves from epoch to epoch; e counts from 1, η is the optimizer's ``lr``.

    =============  ==========================================================================================
    ``constant``   η
    ``multistep``  η γ^k, k the number of ``milestones`` m < e: after m epochs have passed, the rate is cut
    ``every``      η γ^⌊(e − 1)/n⌋
    ``cosine``     η_min + (η − η_min)(1 + cos(π (e − 1)/T))/2 for e ≤ T, η_min after; T is ``epochs``, by
                   default the run's maximum; η_min is ``min_lr``, by default 0 (Loshchilov & Hutter 2017,
                   equation 5, one period)
    =============  ==========================================================================================
    """

    kind: Literal["constant", "multistep", "every", "cosine"] = "constant"
    milestones: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)] | None = None
    gamma: Annotated[float, Field(gt=0)] | None = None
    n: PositiveInt | None = None
    epochs: PositiveInt | None = None
    min_lr: Annotated[float, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def _only_the_keys_of_its_kind(self) -> ScheduleConfig:
        wanted = _KEYS[self.kind]
        given = [key for key in type(self).model_fields if key != "kind" and getattr(self, key) is not None]
        for key in given:
            if key not in wanted:
                takes = " and ".join(wanted) or "no other key"
                raise ValueError(f"the schedule {self.kind} takes {takes}, not {key}")
        if self.kind in ("multistep", "every"):
            for key in wanted:
                if key not in given:
                    raise ValueError(f"the schedule {self.kind} needs {key}")
        if self.milestones is not None and list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        return self


def learning_rate(schedule: ScheduleConfig, lr: float, epoch: int, epochs: int) -> float:
    """Return the rate of an epoch (counted from 1) of a run of at most `epochs`, whose base rate is `lr`.

    >>> tenfold = ScheduleConfig(kind="multistep", milestones=(2, 3), gamma=0.1)
    >>> [round(learning_rate(tenfold, 1.0, epoch, 5), 9) for epoch in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 0.1, 0.01, 0.01]
    >>> cosine = ScheduleConfig(kind="cosine", min_lr=0.2)
    >>> [round(learning_rate(cosine, 1.0, epoch, 4), 9) for epoch in (1, 3, 5)]
    [1.0, 0.6, 0.2]
    """
    passed = epoch - 1
    if schedule.milestones is not None and schedule.gamma is not None:
        return float(lr * schedule.gamma ** sum(milestone <= passed for milestone in schedule.milestones))
    if schedule.n is not None and schedule.gamma is not None:
        return float(lr * schedule.gamma ** (passed // schedule.n))
    if schedule.kind == "cosine":
        low = schedule.min_lr or 0.0
        period = schedule.epochs or epochs
        return low + (lr - low) * (1 + math.cos(math.pi * min(passed, period) / period)) / 2
    return lr
