"""When a run stops: the rules of the five papers, decided from the history alone.

A rule sees nothing but the recorded epochs, so a resumed run decides as an uninterrupted one would.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from sharpscope.serialization import StrictConfig

HOPELESS = "hopeless"
"""The reason for which a run is stopped without being finished."""

NEAR = 3.0
"""Multiple of the training loss asked for from which on ``look_every`` looks within epochs.

A look costs an evaluation of the training set. On the small networks of the adjudication pools an epoch takes the
loss to a half at most when it is this near, so that no run passes the loss unseen.
"""


class PlateauConfig(StrictConfig):
    """Stop when |Δ epoch_loss| < ``threshold`` for ``patience`` consecutive epochs (patriarca2024).

    The first epoch has no predecessor, so the earliest stop is after epoch ``patience`` + 1.
    """

    threshold: PositiveFloat
    patience: PositiveInt = 5


class HopelessConfig(StrictConfig):
    """A look at the end of epoch ``epoch`` that gives a run up as hopeless.

    It does where the loss on the training set is above ``train_loss`` there, or the accuracy on it is below
    ``train_accuracy``, both in eval mode. It sees one run alone: whether a run is given up depends neither on other
    runs nor on the order in which they are trained.
    """

    epoch: PositiveInt
    train_loss: PositiveFloat | None = None
    train_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> HopelessConfig:
        if self.train_loss is None and self.train_accuracy is None:
            raise ValueError("a hopeless run is told by train_loss or train_accuracy; give one of them")
        return self

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Return whether the row of this epoch is a hopeless run's."""
        loss, accuracy = row.get("train_loss"), row.get("train_accuracy")
        too_high = self.train_loss is not None and loss is not None and loss > self.train_loss
        too_low = self.train_accuracy is not None and accuracy is not None and accuracy < self.train_accuracy
        return too_high or too_low


class StopConfig(StrictConfig):
    """The rules by which a run stops; whichever holds first at the end of an epoch.

    - ``epochs``: the most epochs a run may take.
    - ``min_epochs``: no other rule stops a run before this many epochs. Epochs before it still count as quiet
      ones for a plateau.
    - ``train_accuracy``: accuracy on the training set, in eval mode, has reached this (kaur2022: 0.99).
    - ``train_loss``: loss on the training set, in eval mode, has come down to this (matched training loss).
    - ``look_every``: ``train_loss`` is also looked at after every so many steps within an epoch, which ends there:
      without it a run ends as far below as its last epoch took it. It begins with the epoch after the first that
      ended at `NEAR` times ``train_loss`` or less.
    - ``plateau``: see `PlateauConfig` (patriarca2024: threshold 1e-4, patience 5).
    - ``relative_change``: |Δ epoch_loss| / previous epoch_loss is below this (hammoud2023: 0.05). The first
      epoch has no previous loss, unless ``first_previous_loss`` stands in for one (hammoud2023's released
      code: 100).

    - ``hopeless``: looks at which a run is given up, see `HopelessConfig`. Such a run has not finished: it is not
      measured, and no statistic or claim uses it. A look at the last epoch or after it has no effect.

    ``epoch_loss`` is the mean loss over the epoch's own minibatches, while the weights moved: what the papers
    watched.
    """

    epochs: PositiveInt
    min_epochs: NonNegativeInt = 0
    plateau: PlateauConfig | None = None
    relative_change: PositiveFloat | None = None
    first_previous_loss: PositiveFloat | None = None
    train_accuracy: Annotated[float, Field(gt=0, le=1)] | None = None
    train_loss: PositiveFloat | None = None
    look_every: PositiveInt | None = None
    hopeless: list[HopelessConfig] = Field(default_factory=list)

    @model_serializer(mode="wrap")
    def _without_later_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave a key that came later out while it is unset, so that runs made before it keep their identifiers."""
        fields: dict[str, Any] = handler(self)
        return {key: value for key, value in fields.items() if key not in ("hopeless", "look_every") or value}

    def looks_at(self, epoch: int) -> bool:
        """Return whether a rule needs the evaluation at the end of this epoch, evaluated or not."""
        return any(look.epoch == epoch for look in self.hopeless)

    def looks_within(self, history: Sequence[Mapping[str, Any]], step: int) -> bool:
        """Return whether ``train_loss`` is looked at after ``step`` steps of the epoch that follows a history."""
        if self.train_loss is None or self.look_every is None or step % self.look_every:
            return False
        losses = [row["train_loss"] for row in history if row["train_loss"] is not None]
        return len(history) + 1 >= self.min_epochs and min(losses, default=math.inf) <= NEAR * self.train_loss

    @model_validator(mode="after")
    def _consistent(self) -> StopConfig:
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs = {self.min_epochs} must not exceed epochs = {self.epochs}")
        if self.first_previous_loss is not None and self.relative_change is None:
            raise ValueError("first_previous_loss has a meaning only beside relative_change")
        if self.look_every is not None and self.train_loss is None:
            raise ValueError("look_every has a meaning only beside train_loss")
        return self


def stop_reason(stop: StopConfig, history: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the name of the rule that stops the run after the last epoch of `history`, or None to go on.

    Rules on the training set pass over an epoch that was not evaluated. Where several rules hold at once, the named
    one is the first of ``train_accuracy``, ``train_loss``, ``plateau``, ``relative_change``, ``epochs``,
    `HOPELESS`: a run that reaches its end by another rule is finished.

    >>> rule = StopConfig(epochs=10, relative_change=0.05)
    >>> stop_reason(rule, [{"epoch_loss": 1.0}, {"epoch_loss": 0.94}]) is None      # changed by 6 %
    True
    >>> stop_reason(rule, [{"epoch_loss": 1.0}, {"epoch_loss": 1.04}])
    'relative_change'
    """
    if not history:
        return None
    if len(history) >= stop.min_epochs:
        last = history[-1]
        accuracy, loss = last.get("train_accuracy"), last.get("train_loss")
        if stop.train_accuracy is not None and accuracy is not None and accuracy >= stop.train_accuracy:
            return "train_accuracy"
        if stop.train_loss is not None and loss is not None and loss <= stop.train_loss:
            return "train_loss"
        losses = [float(row["epoch_loss"]) for row in history]
        if stop.plateau is not None and _plateau(losses, stop.plateau):
            return "plateau"
        if stop.relative_change is not None:
            seed = [] if stop.first_previous_loss is None else [stop.first_previous_loss]
            if _relative_change_below([*seed, *losses], stop.relative_change):
                return "relative_change"
    if len(history) >= stop.epochs:
        return "epochs"
    if len(history) >= stop.min_epochs and any(
        look.holds(history[-1]) for look in stop.hopeless if look.epoch == len(history)
    ):
        return HOPELESS
    return None


def _plateau(losses: Sequence[float], plateau: PlateauConfig) -> bool:
    recent = losses[-(plateau.patience + 1) :]
    if len(recent) <= plateau.patience:
        return False
    return all(abs(b - a) < plateau.threshold for a, b in pairwise(recent))


def _relative_change_below(losses: Sequence[float], bound: float) -> bool:
    if len(losses) < 2:
        return False
    previous, current = losses[-2:]
    if previous == 0:
        return current == 0  # 0/0: an unchanged loss has not changed
    return abs(current - previous) / abs(previous) < bound
