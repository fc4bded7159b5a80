"""A measured function: a model, its loss and fixed batches, and how one chunk of them is evaluated.

The model is never changed: while a chunk is evaluated other tensors stand in place of its parameters and buffers, and
everything is restored before the result is looked at.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from copy import copy
from dataclasses import replace
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sharpscope.autograd.double_backward import twice_differentiable
from sharpscope.autograd.module_state import SavedState, restoring
from sharpscope.objective.batches import FixedBatches, map_tensors
from sharpscope.objective.distribution import Mean, refuse_parts
from sharpscope.objective.mean_loss import Counts, KnownMean, WeightedMean, checked_batch_loss, checked_loss
from sharpscope.objective.measured_data import Cost, Loss, MeasuredData, idle
from sharpscope.objective.parameters import Layout, layout_of
from sharpscope.seeding import seed_of

BatchLoss = Callable[[nn.Module, Any], tuple[Tensor, float]]
Check = Literal["quick", "full", "none"]
ChunkWatcher = Callable[["MeasuredFunction", int, int | None], object]
T = TypeVar("T")


class MeasuredFunction(MeasuredData):
    """A model, its loss and fixed batches, and how one chunk of them is evaluated at given parameters.

    Attributes
    ----------
    batch_loss
        ``batch_loss(model, batch) -> (mean loss, n_samples)``; None where ``loss`` is given.
    counts
        How much each sample counts in the loss's mean; None for one each.
    layout
        Names and shapes of the measured parameters in a flat vector (size,).
    batch_dependent
        Whether samples of a batch interact, so that batches must be evaluated whole.
    centre
        The point measured at (size,); None for the model's own parameters.
    held_per_sample
        Bytes that a forward pass holds for its backward pass, where single samples can be told apart.
    records_always
        Whether gradients must be recorded even for a loss, since the model takes derivatives itself.
    copies_batches
        Whether the model writes to its inputs, so that it must be given copies.
    verified
        Which matrices' products have been checked; shared by the same function of other data and at other points.
    watch
        Is told of every chunk that is evaluated, see `chunk_done`. What it raises ends the evaluation.
    once_differentiable
        The name of an operation that is marked as having no double backward; None if none was found.

    """

    centre: Tensor | None = None
    held_per_sample: float | None = None
    counts: Counts | None = None
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
        super().__init__(loss, batches)
        self.model, self.batch_loss = model, batch_loss
        self.layout, self.dtype, self.device = layout, dtype, device
        self.mode, self.dropout, self.dropout_seed = mode, dropout, dropout_seed
        self.batch_dependent = mode == "train" or any(_uses_batch_statistics(m) for m in model.modules())
        self.check: Check = "quick"
        self.verified: set[str] = set()

    # -- the same function of other data, at another point, of another model ------------------------

    def at(self, point: Tensor) -> Self:
        """Return this function with another point (size,) in place of the model's own parameters."""
        self.layout.split(point)  # refuses a wrong length
        other = copy(self)
        other.centre, other.cost = self.layout.cut(point.detach().to(self.device, self.dtype)).clone(), Cost()
        return other

    def with_model(self, model: nn.Module, dtype: torch.dtype) -> Self:
        """Return the same function of another model with the same parameters, at that model's own ones."""
        other = copy(self)
        other.model, other.dtype, other.centre, other.cost = model, dtype, None, Cost()
        return other

    def layout_of(self, parameters: Mapping[str, nn.Parameter]) -> Layout:
        """Return the layout of some parameters of the model."""
        layout = layout_of(parameters)
        return (
            layout
            if self.distribution is None
            else replace(layout, shards=self.distribution.shards(parameters))
        )

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

    def flat(self) -> Tensor:
        """Return a copy of the point measured at as a flat vector (size,)."""
        if self.centre is not None:
            return self.centre.clone()
        return self.layout.join(tensor.to(self.dtype) for tensor in self.own_parameters().values())

    def own_parameters(self) -> dict[str, Tensor]:
        """Return what this process holds of the measured parameters, by name."""
        given = dict(self.model.named_parameters())
        return {name: self.own_parameter(name, given[name]) for name in self.layout.names}

    def own_parameter(self, name: str, parameter: Tensor) -> Tensor:
        """Return what this process holds of one of the model's parameters."""
        return parameter.detach() if self.distribution is None else self.distribution.own(name, parameter)

    def leaves(self, at: Tensor | None = None, grad: bool = True) -> dict[str, Tensor]:
        """Return the measured parameters by name as fresh leaves, at the point measured at or at a flat vector.

        Of sharded parameters they are what this rank holds.
        """
        at = self.centre if at is None else at
        with torch.inference_mode(False):
            if at is None:
                tensors = {name: own.to(self.dtype) for name, own in self.own_parameters().items()}
            else:
                tensors = self.layout.held(at.detach().to(self.device, self.dtype))
            return {name: tensor.detach().requires_grad_(grad) for name, tensor in tensors.items()}

    def placed(self, batch: Any) -> Any:
        """Return a batch on the objective's device, its floating-point tensors in the objective's precision."""

        def place(tensor: Tensor) -> Tensor:
            placed = self.cast(tensor.to(self.device)).detach()
            placed = placed.clone() if self.copies_batches else placed
            return placed.requires_grad_() if tensor.requires_grad else placed

        return map_tensors(batch, place)

    def chunk_done(self, number: int, of: int | None = None) -> None:
        """Tell whoever watches that so many chunks of a pass are done, ``of`` how many where it is cut otherwise."""
        _ = self.watch and self.watch(self, number, of)

    def smaller_chunks(self) -> int | None:
        """Halve the chunks and return their new size; None where samples interact or chunks hold one sample."""
        if self.chunk_size is None or self.chunk_size == 1:
            return None
        if self.distribution is not None and self.distribution.in_step:
            return None  # the others wait in the middle of a chunk
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
            exchange = nullcontext() if self.distribution is None else self.distribution.measuring(self.model)
            with inference, twice_differentiable(self.model), exchange:
                torch.set_grad_enabled(grad or self.records_always)
                return function(saved)

        return restoring(self.model, self.device, prepared, self.loss or self.batch_loss)

    def cast(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the objective's precision, if it is floating point."""
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def of_one_process(self) -> Self:
        """Return this function, and refuse one whose model or data other processes hold a part of."""
        refuse_parts(self.distribution, "what looks at outputs")
        return self

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

        The chunks are those of this process alone. Each starts from the model's own buffers and its own seed, so that
        none depends on another. Nothing of the measuring state is left while a result is looked at.
        """
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
        own = {
            name: leaves[name] if name in leaves else self.cast(self.own_parameter(name, p))
            for name, p in saved.parameters.items()
        }
        parameters = {id(p): own[name] for name, p in saved.parameters.items()}
        constants = {id(p): self.cast(p.detach().to(self.device)) for p in saved.constants}
        buffers = {id(b): self.cast(b.detach().to(self.device)).clone() for b in saved.buffers}
        saved.hold(parameters | constants | buffers)
        if self.distribution is not None:
            self.distribution.hold(self.model, own)

    def mean_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Tensor, float]:
        """Return (mean loss, weight) of a placed chunk; a loss that looks at the model finds the leaves in it."""
        if self.batch_loss is not None:
            value, n = checked_batch_loss(*self.batch_loss(self.model, batch))
            if self.distribution is None:
                return value, n
            shared = self.distribution.shared(KnownMean(value, n), idle(weights))
            return shared(None), shared.weight
        outputs, mean = self.outputs_and_loss(batch, weights)
        return checked_loss(mean(outputs)), mean.weight

    def outputs_and_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Any, Mean]:
        """Return (the model's outputs for a placed chunk, their mean loss as a function of outputs)."""
        outputs, mean = self.own_outputs_and_loss(batch, weights)
        return outputs, mean if self.distribution is None else self.distribution.shared(mean, idle(weights))

    def own_outputs_and_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Any, WeightedMean]:
        """Return what `outputs_and_loss` does for this process's part of a chunk alone."""
        assert self.loss is not None
        inputs, targets = batch
        counted = None if idle(weights) else weights
        return self.model(inputs), WeightedMean(self.loss, targets, counted, self.counts)


def _uses_batch_statistics(module: nn.Module) -> bool:
    """Return whether a module is batch normalisation without running statistics: it always couples samples."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
