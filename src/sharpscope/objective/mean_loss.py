"""The mean loss of some samples and how much it counts: by weights of samples, or by what a batch loss returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sharpscope.errors import InputError


class WeightedMean:
    """The mean loss of some samples as a function of the model's outputs for them.

    ``weights`` (n,) say how many samples each stands for, one if None; ``weight`` is their sum. Equal weights should
    be side by side: a loss is known as a mean over samples only, so each run of equal ones has one of its own.
    """

    def __init__(
        self, loss: Callable[[Any, Any], Tensor], targets: Any, weights: Tensor | None = None
    ) -> None:
        self.loss, self.targets = loss, targets
        self.weight = float(len(targets)) if weights is None else float(weights.sum())
        self.runs: list[tuple[slice, float]] = []
        if weights is not None:
            values, counts = weights.unique_consecutive(return_counts=True)
            ends = counts.cumsum(0).tolist()
            for value, count, end in zip(values.tolist(), counts.tolist(), ends, strict=True):
                self.runs.append((slice(end - count, end), value * count / self.weight))

    def __call__(self, outputs: Any) -> Tensor:
        """Return Σ w ℓ / Σ w, a scalar, for outputs (n, ...)."""
        if len(self.runs) < 2:
            return self.loss(outputs, self.targets)
        losses = [share * self.loss(outputs[run], self.targets[run]).reshape(()) for run, share in self.runs]
        return torch.stack(losses).sum()


def checked_batch_loss(value: Any, n: Any) -> tuple[Tensor, float]:
    """Return what a batch loss gave as (scalar tensor, number of samples); refuse anything else."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        received = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"the loss must be one number, the mean over the batch, received {received}; use reduction='mean'"
        )
    if not (isinstance(n, int | float) and math.isfinite(n) and n > 0):
        raise InputError(
            f"batch_loss must return (mean_loss, n_samples) with n_samples > 0, received {n!r}; "
            "return the number of samples the mean is over"
        )
    return value.reshape(()), float(n)
