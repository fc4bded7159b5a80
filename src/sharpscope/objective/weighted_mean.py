"""The mean of a loss in which samples count by weights, where the loss is known as a plain mean only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


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
