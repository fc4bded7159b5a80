"""A measured function: a model, its loss and fixed batches, and how one chunk of them is evaluated.

The model is never changed: while a chunk is evaluated other tensors stand in place of its parameters and buffers, and
everything is restored before the result is looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sharpscope.autograd.double_backward import twice_differentiable
from sharpscope.autograd.module_state import SavedState, restoring
from sharpscope.objective.batches import FixedBatches, cut, map_tensors
from sharpscope.objective.distribution import DataParallel, refuse_parts
from sharpscope.objective.mean_loss import Counts, WeightedMean, checked_batch_loss, checked_loss
from sharpscope.objective.parameters import Layout
from sharpscope.seeding import seed_of

Loss = Callable[[Any, Any], Tensor]
BatchLoss = Callable[[nn.Module, Any], tuple[Tensor, float]]
Check = Literal["quick", "full", "none"]
ChunkWatcher = Callable[["MeasuredFunction", int, int | None], object]
T = TypeVar("T")


@dataclass
class Cost:
    """Full-data evaluations an objective has been asked for: losses, gradients, Hessian-vector products."""

    losses: int = 0
    gradients: int = 0
    products: int = 0

    def since(self, before: Cost) -> dict[str, int]:
        """Return what has been evaluated after ``before`` (a copy taken earlier)."""
        return {key: value - getattr(before, key) for key, value in asdict(self).items()}


class MeasuredFunction:
    """A model, its loss and fixed batches, and how one chunk of them is evaluated at given parameters.

    Attributes
    ----------
    loss
        ``loss(outputs, targets)``; None for an objective made with `Objective.from_batch_loss`.
    batch_loss
        ``batch_loss(model, batch) -> (mean loss, n_samples)``; None where ``loss`` is given.
    counts
        How much each sample counts in the loss's mean; None for one each.
    layout
        Names and shapes of the measured parameters in a flat vector (size,).
    batch_dependent
        Whether samples of a batch interact, so that batches must be evaluated whole.
    chunk_size
        Samples evaluated together; None where batches are evaluated whole.
    weights
        How many samples each sample of the only batch stands for (m,), equal ones side by side; None for one each.
    centre
        The point measured at (size,); None for the model's own parameters.
    held_per_sample
        Bytes that a forward pass holds for its backward pass, where single samples can be told apart.
    cost
        What has been evaluated so far.
    records_always
        Whether gradients must be recorded even for a loss, since the model takes derivatives itself.
    copies_batches
        Whether the model writes to its inputs, so that it must be given copies.
    per_rank, batches_per_rank
        How many samples each rank holds, zero where only a loss of outputs could count them; and how many batches.
    verified
        Which matrices' products have been checked; shared by the same function of other data and at other points.
    distribution
        Which part of the data and of the vectors other processes hold; None for one process.
    watch
        Is told of every chunk that is evaluated, see `chunk_done`. What it raises ends the evaluation.
    once_differentiable
        The name of an operation that is marked as having no double backward; None if none was found.

    """

    chunk_size: int | None = None
    weights: Tensor | None = None
    centre: Tensor | None = None
    held_per_sample: float | None = None
    counts: Counts | None = None
    distribution: DataParallel | None = None
    per_rank: Sequence[float] = ()
    batches_per_rank: Sequence[float] = ()
    records_always: bool = False
    copies_batches: bool = False
    once_differentiable: str | None = None
    watch: ChunkWatcher | None = None

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        batch_loss: BatchLoss | None,
        batches: FixedBatches,
        layout: Layout,
        dtype: torch.dtype,
        device: torch.device,
        mode: str,
        dropout: bool,
        dropout_seed: int,
    ) -> None:
        self.model, self.loss, self.batch_loss = model, loss, batch_loss
        self.batches, self.layout, self.dtype, self.device = batches, layout, dtype, device
        self.mode, self.dropout, self.dropout_seed = mode, dropout, dropout_seed
        self.batch_dependent = mode == "train" or any(_uses_batch_statistics(m) for m in model.modules())
        self.cost = Cost()
        self.check: Check = "quick"
        self.verified: set[str] = set()
        self._tensors: tuple[Tensor, Tensor] | None = None
        self._total_weight: float | None = None

    # -- the same function of other data, at another point, of another model ------------------------

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

    def at(self, point: Tensor) -> Self:
        """Return this function with another point (size,) in place of the model's own parameters."""
        self.layout.split(point)  # refuses a wrong length
        other = copy(self)
        other.centre, other.cost = point.detach().to(self.device, self.dtype).clone(), Cost()
        return other

    def with_model(self, model: nn.Module, dtype: torch.dtype) -> Self:
        """Return the same function of another model with the same parameters, at that model's own ones."""
        other = copy(self)
        other.model, other.dtype, other.centre, other.cost = model, dtype, None, Cost()
        return other

    def with_layout(self, layout: Layout) -> Self:
        """Return the same function of other parameters of the model, at the model's own ones."""
        other = copy(self)
        other.layout, other.centre, other.cost = layout, None, Cost()
        other.verified = set(self.verified) if set(layout.names) <= set(self.layout.names) else set()
        return other

    def in_precision(self, dtype: torch.dtype) -> Self:
        """Return this function at the same point, computed in another precision."""
        other = copy(self)
        other.dtype, other.cost = dtype, Cost()
        other.centre = None if self.centre is None else self.centre.to(dtype)
        return other

    # -- what is evaluated --------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of parameters measured."""
        return self.layout.size

    @property
    def separable(self) -> bool:
        """Whether a loss of outputs and targets is given and no sample's depends on another."""
        return self.loss is not None and not self.batch_dependent

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return all inputs and all targets, each as one tensor in order; needs (inputs, targets) batches."""
        refuse_parts(self.distribution, "what looks at single samples")
        if self._tensors is None:
            self._tensors = self.batches.tensors()
        return self._tensors

    def flat(self) -> Tensor:
        """Return a copy of the point measured at as a flat vector (size,)."""
        if self.centre is not None:
            return self.centre.clone()
        parameters = dict(self.model.named_parameters())
        return self.layout.join(parameters[name].detach().to(self.dtype) for name in self.layout.names)

    def leaves(self, at: Tensor | None = None, grad: bool = True) -> dict[str, Tensor]:
        """Return the measured parameters by name as fresh leaves, at the point measured at or at a flat vector."""
        at = self.centre if at is None else at
        with torch.inference_mode(False):
            if at is None:
                given = dict(self.model.named_parameters())
                tensors = {name: given[name].detach().to(self.dtype) for name in self.layout.names}
            else:
                tensors = self.layout.split(at.detach().to(self.device, self.dtype))
            return {name: tensor.detach().requires_grad_(grad) for name, tensor in tensors.items()}

    def placed(self, batch: Any) -> Any:
        """Return a batch on the objective's device, its floating-point tensors in the objective's precision."""

        def place(tensor: Tensor) -> Tensor:
            placed = self.cast(tensor.to(self.device)).detach()
            placed = placed.clone() if self.copies_batches else placed
            return placed.requires_grad_() if tensor.requires_grad else placed

        return map_tensors(batch, place)

    @property
    def batch_count(self) -> int:
        """Number of batches of all the data."""
        return self.batches.count if self.distribution is None else int(sum(self.batches_per_rank))

    @property
    def batches_before(self) -> int:
        """Number of batches that the ranks before this one hold."""
        return 0 if self.distribution is None else self.distribution.first(self.batches_per_rank)

    def first_batch(self) -> Any:
        """Return the first batch of all the data."""
        refuse_parts(self.distribution, "what looks at the first samples")
        return next(iter(self.batches))

    def chunks(self, skip: int = 0) -> Iterator[tuple[int, Any, Tensor | None]]:
        """Yield (index, chunk, its samples' weights), from index ``skip`` on; batches are cut where they may be."""
        refuse_parts(self.distribution, "what looks at outputs")
        return self._own_chunks(skip)

    def _own_chunks(self, skip: int = 0) -> Iterator[tuple[int, Any, Tensor | None]]:
        index = 0
        for batch in self.batches:
            pieces = [batch] if self.chunk_size is None else list(cut(batch[0], batch[1], self.chunk_size))
            weights = None if self.weights is None else self.weights.split(len(pieces[0][1]))
            for piece, chunk in enumerate(pieces):
                if index >= skip:
                    yield index, chunk, None if weights is None else weights[piece]
                index += 1

    def chunk_done(self, number: int, of: int | None = None) -> None:
        """Tell whoever watches that so many chunks of a pass are done, ``of`` how many where it is cut otherwise."""
        _ = self.watch and self.watch(self, number, of)

    def smaller_chunks(self) -> int | None:
        """Halve the chunks and return their new size; None where samples interact or chunks hold one sample."""
        if self.chunk_size is None or self.chunk_size == 1:
            return None
        self.chunk_size //= 2
        return self.chunk_size

    # -- how it is evaluated ------------------------------------------------------------------------

    def measuring(self, function: Callable[[SavedState], T], *, grad: bool) -> T:
        """Return ``function(saved)`` called in the measuring state, and leave model and process as found.

        The measuring state: the declared mode, no autocast, kernels that differentiate twice, gradients recorded
        or not. `substitute` then puts leaves in place of the model's parameters.
        """

        def prepared(saved: SavedState) -> T:
            saved.set_mode(self.mode, self.dropout)
            saved.use_twice_differentiable_kernels()
            inference = torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()
            with inference, twice_differentiable(self.model):
                torch.set_grad_enabled(grad or self.records_always)
                return function(saved)

        return restoring(self.model, self.device, prepared, self.loss or self.batch_loss)

    def cast(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the objective's precision, if it is floating point."""
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def each_chunk(
        self,
        function: Callable[[Any, Tensor | None], T],
        leaves: dict[str, Tensor],
        *,
        skip: int = 0,
        grad: bool = True,
        prepare: Callable[[nn.Module], None] | None = None,
    ) -> Iterator[T]:
        """Yield ``function(chunk, weights)``, called in the measuring state with leaves in place of the parameters.

        Every chunk starts from the model's own buffers and its own seed, so that none depends on another. Nothing
        of the measuring state is left while a result is looked at.
        """
        refuse_parts(self.distribution, "what looks at outputs")
        return self.each_own_chunk(function, leaves, skip=skip, grad=grad, prepare=prepare)

    def each_own_chunk(
        self,
        function: Callable[[Any, Tensor | None], T],
        leaves: dict[str, Tensor],
        *,
        skip: int = 0,
        grad: bool = True,
        prepare: Callable[[nn.Module], None] | None = None,
    ) -> Iterator[T]:
        """Yield what `each_chunk` does, for the chunks of this process alone."""
        before = self.batches_before if self.dropout else 0  # masks go by the batch's number among all
        for index, chunk, weights in self._own_chunks(skip):
            yield self.on_chunk(
                function, leaves, chunk, weights, index=before + index, grad=grad, prepare=prepare
            )
            self.chunk_done(index + 1)

    def on_chunk(
        self,
        function: Callable[[Any, Tensor | None], T],
        leaves: dict[str, Tensor],
        chunk: Any,
        weights: Tensor | None = None,
        *,
        index: int = 0,
        grad: bool = True,
        prepare: Callable[[nn.Module], None] | None = None,
        move: bool = False,
    ) -> T:
        """Return ``function(chunk, weights)`` of one chunk, see `each_chunk`.

        ``prepare`` may change attributes of the model first. ``move`` gives the model's own parameters the values of
        the leaves for the time of the call, so that what reads them past the module sees them too.
        """

        def evaluate(saved: SavedState) -> T:
            if prepare is not None:
                prepare(self.model)
            if move:
                saved.move(leaves)
            self.substitute(saved, leaves, index)
            return function(self.placed(chunk), weights)

        return self.measuring(evaluate, grad=grad)

    def substitute(self, saved: SavedState, leaves: dict[str, Tensor], index: int = 0) -> None:
        """Put leaves in place of the parameters, fresh copies in place of the buffers, and set a chunk's seed."""
        seed = seed_of("dropout", self.dropout_seed, index)
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)
        parameters = {id(p): leaves.get(name, self.cast(p.detach())) for name, p in saved.parameters.items()}
        constants = {id(p): self.cast(p.detach().to(self.device)) for p in saved.constants}
        buffers = {id(b): self.cast(b.detach().to(self.device)).clone() for b in saved.buffers}
        saved.hold(parameters | constants | buffers)

    def mean_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Tensor, float]:
        """Return (mean loss, weight) of a placed chunk; a loss that looks at the model finds the leaves in it."""
        if self.batch_loss is not None:
            return checked_batch_loss(*self.batch_loss(self.model, batch))
        outputs, mean = self.outputs_and_loss(batch, weights)
        return checked_loss(mean(outputs)), mean.weight

    def outputs_and_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Any, WeightedMean]:
        """Return (the model's outputs for a placed chunk, their mean loss as a function of outputs)."""
        assert self.loss is not None
        inputs, targets = batch
        return self.model(inputs), WeightedMean(self.loss, targets, weights, self.counts)


def _uses_batch_statistics(module: nn.Module) -> bool:
    """Return whether a module is batch normalisation without running statistics: it always couples samples."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
