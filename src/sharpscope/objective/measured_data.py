"""The data of a measured function: which part of it this process holds, and how it is cut into chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Tensor

from sharpscope.objective.batches import FixedBatches, cut
from sharpscope.objective.distribution import DataParallel, refuse_parts

Loss = Callable[[Any, Any], Tensor]

COMMON = 64
"""Rows of a batch that all ranks get alike where they work in step: as many as the checks look at."""


@dataclass
class Cost:
    """Full-data evaluations an objective has been asked for: losses, gradients, Hessian-vector products."""

    losses: int = 0
    gradients: int = 0
    products: int = 0

    def since(self, before: Cost) -> dict[str, int]:
        """Return what has been evaluated after ``before`` (a copy taken earlier)."""
        return {key: value - getattr(before, key) for key, value in asdict(self).items()}


class MeasuredData:
    """Fixed batches, of which several ranks may hold parts, and the chunks in which they are evaluated.

    Attributes
    ----------
    loss
        ``loss(outputs, targets)``; None for an objective made with `Objective.from_batch_loss`.
    chunk_size
        Samples evaluated together; None where batches are evaluated whole.
    weights
        How many samples each sample of the only batch stands for (m,), equal ones side by side; None for one each.
    cost
        What has been evaluated so far.
    distribution
        Which part of the data and of the vectors other processes hold; None for one process.
    per_rank, batches_per_rank
        How many samples each rank holds, zero where they cannot be counted without a loss of outputs and targets; and
        how many batches.

    """

    chunk_size: int | None = None
    weights: Tensor | None = None
    distribution: DataParallel | None = None
    per_rank: Sequence[float] = ()
    batches_per_rank: Sequence[float] = ()

    def __init__(self, loss: Loss | None, batches: FixedBatches) -> None:
        self.loss, self.batches, self.cost = loss, batches, Cost()
        self._tensors: tuple[Tensor, Tensor] | None = None
        self._common: Any = None
        self._total_weight: float | None = None

    # -- other data -----------------------------------------------------------------------------------

    def with_data(self, batches: Any, weights: Tensor | None = None) -> Self:
        """Return the same function of other batches, which counts its own cost; shares the model."""
        other = self._with_own_batches(batches, weights)
        other.count_samples()
        return other

    def subset(self, indices: Tensor, weights: Tensor | None = None) -> Self:
        """Return the same function of chosen samples (m,) of the data, as one batch; see `Objective.subset`."""
        if self.distribution is None:
            return self._with_own_batches(self._drawn(indices), weights)
        mine, counts = self.distribution.split(indices.cpu(), self.per_rank)
        total = float(len(indices) if weights is None else weights.sum())
        first = self.distribution.first(self.per_rank)
        other = self._with_own_batches(
            self._drawn(indices[mine] - first) if bool(mine.any()) else [],
            None if weights is None else weights[mine],
        )
        other.per_rank, other._total_weight = counts, total
        other._common = self.distribution.common_batch(other.batches, COMMON)
        return other

    def _with_own_batches(self, batches: Any, weights: Tensor | None) -> Self:
        other = copy(self)
        apart = self.distribution is not None
        other.batches = FixedBatches(batches, pairs=self.loss is not None, may_be_empty=apart)
        other.weights, other.cost = weights, Cost()
        other._tensors = other._total_weight = None
        return other

    def _drawn(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and targets of some of this process's samples."""
        if self._tensors is None:
            self._tensors = self.batches.tensors()
        inputs, targets = self._tensors
        index = indices.to(inputs.device)
        return inputs[index], targets[index.to(targets.device)]

    def count_samples(self) -> None:
        """Tell the ranks how many samples and batches each of them has."""
        if self.distribution is not None:
            own = sum(len(targets) for _, targets in self.batches) if self.loss is not None else 0
            self.per_rank, self.batches_per_rank = self.distribution.counts(own, self.batches.count)
            if sum(self.batches_per_rank):
                rows = COMMON if self.loss is not None else 0
                self._common = self.distribution.common_batch(self.batches, rows)

    # -- what there is --------------------------------------------------------------------------------

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return all inputs and all targets, each as one tensor in order; needs (inputs, targets) batches."""
        refuse_parts(self.distribution, "what looks at single samples")
        if self._tensors is None:
            self._tensors = self.batches.tensors()
        return self._tensors

    @property
    def batch_count(self) -> int:
        """Number of batches of all the data."""
        return self.batches.count if self.distribution is None else int(sum(self.batches_per_rank))

    @property
    def batches_before(self) -> int:
        """Number of batches that the ranks before this one hold."""
        return 0 if self.distribution is None else self.distribution.first(self.batches_per_rank)

    def batch_to_check(self) -> Any:
        """Return the batch whose first samples the checks look at; the same on all ranks where they work in step."""
        return next(iter(self.batches)) if self._common is None else self._common

    def first_batch(self) -> Any:
        """Return the first batch of all the data."""
        refuse_parts(self.distribution, "what looks at the first samples")
        return next(iter(self.batches))

    def chunks(self, skip: int = 0) -> Iterator[tuple[int, Any, Tensor | None]]:
        """Yield (index, chunk, its samples' weights), from index ``skip`` on; batches are cut where they may be."""
        refuse_parts(self.distribution, "what looks at outputs")
        return self._own_chunks(skip)

    def _own_chunks(self, skip: int = 0) -> Iterator[tuple[int, Any, Tensor | None]]:
        """Yield this process's chunks; ranks that work in step all get as many, some to be evaluated for nothing."""
        index = most = 0
        if self._common is not None and self.distribution is not None:
            size = self.chunk_size
            own = sum(-(-len(b[1]) // size) for b in self.batches) if size else self.batches.count
            most = int(max(self.distribution.counts(own)[0]))
        for batch in self.batches:
            pieces = [batch] if self.chunk_size is None else list(cut(batch[0], batch[1], self.chunk_size))
            weights = None if self.weights is None else self.weights.split(len(pieces[0][1]))
            for piece, chunk in enumerate(pieces):
                if index >= skip:
                    yield index, chunk, None if weights is None else weights[piece]
                index += 1
        while index < most:
            chunk = self._common
            if index >= skip:
                yield index, chunk, torch.zeros(1)
            index += 1


def idle(weights: Tensor | None) -> bool:
    """Return whether a chunk is evaluated for nothing, in step with other ranks: then all its weights are zero."""
    return weights is not None and not bool(weights.any())
