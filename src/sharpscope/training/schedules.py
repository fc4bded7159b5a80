"""Schedules of the learning rate, and of SAM's ρ, as functions of epoch and step alone.

A schedule has no state: the rate of a step follows from the configuration, so a resumed run cannot disagree with an
uninterrupted one, and a run that a stopping rule ends early has simply left the schedule there.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, SerializerFunctionWrapHandler, model_serializer, model_validator

from sharpscope.serialization import StrictConfig

_KEYS = {
    "constant": (),
    "multistep": ("milestones", "gamma"),
    "every": ("n", "gamma"),
    "cosine": ("epochs", "min_lr"),
    "one_cycle": ("epochs", "rise", "start_factor", "end_factor"),
}
_LATER_KEYS = ("warmup", "rise", "start_factor", "end_factor")
"""Keys that came later: left out of a run's identity while unset, so that earlier runs keep theirs."""


class ScheduleConfig(StrictConfig):
    """How the learning rate moves; e counts epochs from 1, η is the optimizer's ``lr``.

    =============  ==========================================================================================
    ``constant``   η
    ``multistep``  η γ^k, k the number of ``milestones`` m < e: after m epochs have passed, the rate is cut
    ``every``      η γ^⌊(e − 1)/n⌋
    ``cosine``     η_min + (η − η_min)(1 + cos(π (e − 1)/T))/2 for e ≤ T, η_min after; T is ``epochs``, by
                   default the run's maximum; η_min is ``min_lr``, by default 0 (Loshchilov & Hutter 2017,
                   equation 5, one period)
    ``one_cycle``  step by step from η f_0 up to η over the share ``rise`` (0.3) of all steps of T epochs, then
                   down to η f_1, each along half a cosine, and η f_1 after; f_0 is ``start_factor`` (1/25), f_1
                   ``end_factor`` (4e-6): ``torch.optim.lr_scheduler.OneCycleLR`` (Smith & Topin 2019)
    =============  ==========================================================================================

    ``warmup``: over so many epochs every rate is multiplied by (t + 1)/W, t counting the run's steps from 0 and W
    the steps of these epochs (Goyal et al. 2017, section 2.2). ``one_cycle`` has a rise of its own and takes none.

    A run that a stopping rule ends before T epochs has followed the first part of the schedule only.
    """

    kind: Literal["constant", "multistep", "every", "cosine", "one_cycle"] = "constant"
    milestones: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)] | None = None
    gamma: Annotated[float, Field(gt=0)] | None = None
    n: PositiveInt | None = None
    epochs: PositiveInt | None = None
    min_lr: Annotated[float, Field(ge=0)] | None = None
    warmup: PositiveInt | None = None
    rise: Annotated[float, Field(gt=0, lt=1)] | None = None
    start_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    end_factor: Annotated[float, Field(ge=0, le=1)] | None = None

    @model_validator(mode="after")
    def _only_the_keys_of_its_kind(self) -> ScheduleConfig:
        wanted = _KEYS[self.kind] if self.kind == "one_cycle" else (*_KEYS[self.kind], "warmup")
        given = [key for key in type(self).model_fields if key != "kind" and getattr(self, key) is not None]
        for key in given:
            if key not in wanted:
                raise ValueError(f"the schedule {self.kind} takes {' and '.join(wanted)}, not {key}")
        if self.kind in ("multistep", "every"):
            for key in _KEYS[self.kind]:
                if key not in given:
                    raise ValueError(f"the schedule {self.kind} needs {key}")
        if self.milestones is not None and list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError("milestones must increase")
        return self

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {key: value for key, value in fields.items() if key not in _LATER_KEYS or value is not None}


def learning_rate(
    schedule: ScheduleConfig, lr: float, epoch: int, epochs: int, step: int = 0, steps: int = 1
) -> float:
    """Return the rate of a step of a run of at most ``epochs`` epochs of ``steps`` steps, whose base rate is ``lr``.

    ``epoch`` counts from 1, ``step`` from 0 within the epoch. Only ``one_cycle`` and ``warmup`` move within an epoch.

    >>> tenfold = ScheduleConfig(kind="multistep", milestones=(2, 3), gamma=0.1)
    >>> [round(learning_rate(tenfold, 1.0, epoch, 5), 9) for epoch in (1, 2, 3, 4, 5)]
    [1.0, 1.0, 0.1, 0.01, 0.01]
    >>> cosine = ScheduleConfig(kind="cosine", min_lr=0.2)
    >>> [round(learning_rate(cosine, 1.0, epoch, 4), 9) for epoch in (1, 3, 5)]
    [1.0, 0.6, 0.2]
    >>> warm = ScheduleConfig(warmup=2)
    >>> [learning_rate(warm, 1.0, epoch, 5, step, steps=2) for epoch in (1, 2, 3) for step in (0, 1)]
    [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    """
    if schedule.kind == "one_cycle":
        return _one_cycle(schedule, lr, (epoch - 1) * steps + step, (schedule.epochs or epochs) * steps)
    rate = _of_epoch(schedule, lr, epoch, epochs)
    if schedule.warmup is not None:
        rate *= min(1.0, ((epoch - 1) * steps + step + 1) / (schedule.warmup * steps))
    return rate


def _of_epoch(schedule: ScheduleConfig, lr: float, epoch: int, epochs: int) -> float:
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


def _one_cycle(schedule: ScheduleConfig, lr: float, step: int, total: int) -> float:
    """Return the rate of step ``step``, from 0, of a cycle of ``total`` steps, as torch has it.

    The highest rate is at the step 0.3 total − 1, which need not be whole, and the lowest at the last one.
    """
    rise = 0.3 if schedule.rise is None else schedule.rise
    start = lr * (1 / 25 if schedule.start_factor is None else schedule.start_factor)
    end = lr * (4e-6 if schedule.end_factor is None else schedule.end_factor)
    top, last = rise * total - 1, total - 1
    if step >= last:
        return end
    if 0 < top >= step:
        return _half_cosine(start, lr, step / top)
    return _half_cosine(lr, end, (step - top) / (last - top))


def _half_cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2
