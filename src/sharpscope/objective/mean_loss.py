"""The mean loss of some samples, and how much it counts: by samples, by class weights, or as a batch loss says."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sharpscope.errors import InputError

Counts = Callable[[Tensor], Tensor]
"""How much each sample counts in a loss's mean, by its targets: (n, ...) to (n,) in float64."""


def counts_of(loss: Any, targets: Tensor) -> Counts | None:
    """Return how torch's own losses count samples in their mean, None where each sample counts one.

    `torch.nn.CrossEntropyLoss` and `torch.nn.NLLLoss`, their functions, and partials of these divide the sum over all
    positions of a batch by the sum of the class weights of its targets, ignored targets left out. So a batch counts
    by that sum. It is given in units of the number of positions of one sample of ``targets``.

    >>> count = counts_of(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0])), torch.tensor([0]))
    >>> count(torch.tensor([0, 1, 1, -100]))
    tensor([1., 5., 5., 0.], dtype=torch.float64)
    """
    options: dict[str, Any] = {}
    if isinstance(loss, functools.partial) and not loss.args:
        loss, options = loss.func, loss.keywords
    if type(loss) in (nn.CrossEntropyLoss, nn.NLLLoss):
        options = {
            "weight": loss.weight,
            "ignore_index": loss.ignore_index,
            "reduction": loss.reduction,
        }
    elif loss is not F.cross_entropy and loss is not F.nll_loss:
        return None
    if options.get("reduction", "mean") != "mean" or targets.is_floating_point():
        return None
    weight, ignored = options.get("weight"), options.get("ignore_index", -100)
    positions = targets[0].numel()

    def counts(targets: Tensor) -> Tensor:
        flat = targets.reshape(len(targets), -1)  # (n, positions)
        valid = flat != ignored
        if weight is None:
            share: Tensor = valid.sum(1, dtype=torch.float64) / positions
            return share
        of_class: Tensor = weight.detach().double().to(flat.device)
        counted: Tensor = torch.where(valid, of_class[torch.where(valid, flat, 0)], 0.0).sum(1) / positions
        return counted

    return counts


class WeightedMean:
    """The mean loss of some samples as a function of the model's outputs for them.

    ``weights`` (n,) say how many samples each stands for, one if None; ``counts`` how much a sample counts in the
    loss's own mean, see `counts_of`. ``weight`` is the sum of their products. Equal weights should be side by side: a
    loss is known as a mean over samples only, so each run of equal ones has one of its own.
    """

    def __init__(
        self,
        loss: Callable[[Any, Any], Tensor],
        targets: Any,
        weights: Tensor | None = None,
        counts: Counts | None = None,
    ) -> None:
        self.loss, self.targets = loss, targets
        counted = None if counts is None else counts(targets)
        if weights is not None:
            values, lengths = weights.unique_consecutive(return_counts=True)
            ends = lengths.cumsum(0).tolist()
            runs = []
            for value, length, end in zip(values.tolist(), lengths.tolist(), ends, strict=True):
                run = slice(end - length, end)
                runs.append((run, value * (length if counted is None else float(counted[run].sum()))))
            self.weight = float(weights.sum()) if counted is None else math.fsum(w for _, w in runs)
            self.runs = [(run, w / self.weight) for run, w in runs if w] if self.weight else []
        else:
            self.weight = float(len(targets)) if counted is None else float(counted.sum())
            self.runs = []

    def __call__(self, outputs: Any) -> Tensor:
        """Return Σ w ℓ / Σ w, a scalar, for outputs (n, ...); zero where no sample counts."""
        if self.weight == 0:
            return (outputs * 0).nan_to_num().sum() if isinstance(outputs, Tensor) else torch.zeros(())
        if len(self.runs) == 0 or (len(self.runs) == 1 and self.runs[0][0] == slice(0, len(self.targets))):
            return self.loss(outputs, self.targets)
        losses = [share * self.loss(outputs[run], self.targets[run]).reshape(()) for run, share in self.runs]
        return torch.stack(losses).sum()


class KnownMean:
    """A mean loss that is known already, whatever the outputs; ``weight`` is how many samples it counts."""

    def __init__(self, value: Tensor, weight: float) -> None:
        self.value, self.weight, self.targets = value, weight, None

    def __call__(self, outputs: Any) -> Tensor:
        """Return the mean loss, a scalar."""
        return self.value


def checked_loss(value: Any) -> Tensor:
    """Return a loss as a scalar tensor; refuse what is not one number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        received = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"the loss must be the mean over the batch as a scalar tensor, received {received}; use reduction='mean'"
        )
    return value.reshape(())


def checked_batch_loss(value: Any, n: Any) -> tuple[Tensor, float]:
    """Return what a batch loss gave as (scalar tensor, number of samples); refuse anything else."""
    value = checked_loss(value)
    if isinstance(n, Tensor | np.ndarray | np.generic) and math.prod(n.shape) == 1:
        n = n.item()
    if not (isinstance(n, Real) and math.isfinite(float(n)) and float(n) > 0):
        raise InputError(
            f"batch_loss must return (mean_loss, n_samples) with n_samples > 0, received {n!r}; "
            "return the number of samples the mean is over"
        )
    return value, float(n)
