"""The engine behind an objective: evaluates a model's loss on fixed batches, chunk by chunk, at any parameters.

Measures that only need L(θ), ∇L(θ) and products call `Objective`. Those that need more (other precisions, kept
graphs, many points in one pass, outputs apart from the loss) find it here as ``obj.evaluator``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sharpscope.autograd.convolution import replace_convolutions
from sharpscope.autograd.double_backward import twice_differentiable
from sharpscope.autograd.module_state import SavedState, restoring
from sharpscope.errors import InputError, NonFiniteError
from sharpscope.objective.batches import FixedBatches, cut, map_tensors
from sharpscope.objective.chunking import retry_with_smaller_chunks
from sharpscope.objective.graphs import ChunkProduct, GaussNewtonOfChunk, HessianOfChunk, gradients
from sharpscope.objective.mean_loss import WeightedMean, checked_batch_loss
from sharpscope.objective.parameters import Layout
from sharpscope.seeding import seed_of

Loss = Callable[[Any, Any], Tensor]
BatchLoss = Callable[[nn.Module, Any], tuple[Tensor, float]]
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


class Evaluator:
    """Evaluates a model's loss on fixed batches at given parameters; see `Objective` for the meaning of the fields.

    Attributes
    ----------
    loss
        ``loss(outputs, targets)``; None for an objective made with `Objective.from_batch_loss`.
    batch_loss
        ``batch_loss(model, batch) -> (mean loss, n_samples)``.
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

    """

    chunk_size: int | None = None
    weights: Tensor | None = None
    centre: Tensor | None = None
    held_per_sample: float | None = None

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        batch_loss: BatchLoss,
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
        self._tensors: tuple[Tensor, Tensor] | None = None
        self._total_weight: float | None = None

    # -- the same function of other data, at another point, of another model ------------------------

    def with_data(self, batches: Any, weights: Tensor | None = None) -> Evaluator:
        """Return the same evaluator on other batches, which counts its own cost; shares the model."""
        other = copy(self)
        other.batches = FixedBatches(batches, pairs=self.loss is not None)
        other.weights, other.cost = weights, Cost()
        other._tensors = other._total_weight = None
        return other

    def at(self, point: Tensor) -> Evaluator:
        """Return this evaluator with another point (size,) in place of the model's own parameters."""
        self.layout.split(point)  # refuses a wrong length
        other = copy(self)
        other.centre, other.cost = point.detach().to(self.device, self.dtype).clone(), Cost()
        return other

    def with_model(self, model: nn.Module, dtype: torch.dtype) -> Evaluator:
        """Return the same evaluator of another model with the same parameters, at that model's own ones."""
        other = copy(self)
        other.model, other.dtype, other.centre, other.cost = model, dtype, None, Cost()
        return other

    def with_layout(self, layout: Layout) -> Evaluator:
        """Return the same evaluator of other parameters of the model, at the model's own ones."""
        other = copy(self)
        other.layout, other.centre, other.cost = layout, None, Cost()
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

    @property
    def n_samples(self) -> float:
        """N, the number of samples that the mean is over (for `from_batch_loss`, the sum of its weights)."""
        if self._total_weight is None:
            if self.loss is None:
                self.value()
            else:
                self._total_weight = self.evaluated if self.weights is None else float(self.weights.sum())
        assert self._total_weight is not None
        return self._total_weight

    @property
    def evaluated(self) -> float:
        """Number of samples that one evaluation takes: N, but for a part of the data drawn with weights."""
        return self.n_samples if self.loss is None else sum(len(targets) for _, targets in self.batches)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return all inputs and all targets, each as one tensor in order; needs (inputs, targets) batches."""
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
        return map_tensors(batch, lambda t: self._cast(t.to(self.device)))

    def chunks(self, skip: int = 0) -> Iterator[tuple[int, Any, Tensor | None]]:
        """Yield (index, chunk, its samples' weights), from index ``skip`` on; batches are cut where they may be."""
        index = 0
        for batch in self.batches:
            pieces = [batch] if self.chunk_size is None else list(cut(batch[0], batch[1], self.chunk_size))
            weights = None if self.weights is None else self.weights.split(len(pieces[0][1]))
            for piece, chunk in enumerate(pieces):
                if index >= skip:
                    yield index, chunk, None if weights is None else weights[piece]
                index += 1

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
                torch.set_grad_enabled(grad)
                return function(saved)

        return restoring(self.model, self.device, prepared)

    def _cast(self, tensor: Tensor) -> Tensor:
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

        def on_chunk(index: int, chunk: Any, weights: Tensor | None, saved: SavedState) -> T:
            if prepare is not None:
                prepare(self.model)
            self.substitute(saved, leaves, index)
            return function(self.placed(chunk), weights)

        for index, chunk, weights in self.chunks(skip):
            yield self.measuring(partial(on_chunk, index, chunk, weights), grad=grad)

    def substitute(self, saved: SavedState, leaves: dict[str, Tensor], index: int = 0) -> None:
        """Put leaves in place of the parameters, fresh copies in place of the buffers, and set a chunk's seed."""
        torch.manual_seed(seed_of("dropout", self.dropout_seed, index))
        parameters = {id(p): leaves.get(name, self._cast(p.detach())) for name, p in saved.parameters.items()}
        saved.hold(parameters | {id(b): self._cast(b.detach()).clone() for b in saved.buffers})

    def mean_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Tensor, float]:
        """Return (mean loss, weight) of a placed chunk; a loss that looks at the model finds the leaves in it."""
        if weights is None:
            return checked_batch_loss(*self.batch_loss(self.model, batch))
        outputs, mean = self.outputs_and_loss(batch, weights)
        return checked_batch_loss(mean(outputs), mean.weight)

    def outputs_and_loss(self, batch: Any, weights: Tensor | None = None) -> tuple[Any, WeightedMean]:
        """Return (the model's outputs for a placed chunk, their mean loss as a function of outputs)."""
        assert self.loss is not None
        inputs, targets = batch
        return self.model(inputs), WeightedMean(self.loss, targets, weights)

    # -- values, gradients, products ----------------------------------------------------------------

    @retry_with_smaller_chunks
    def value(self, at: Tensor | None = None) -> float:
        """Return L(θ) at the point measured at or at a flat vector (size,); it may be infinite or NaN there."""
        total = weight = 0.0
        for value, n in self.each_chunk(self.mean_loss, self.leaves(at, grad=False), grad=False):
            total += n * float(value)
            weight += n
        self.cost.losses += 1
        self._total_weight = weight
        return total / weight

    @retry_with_smaller_chunks
    def value_and_gradient(self, at: Tensor | None = None) -> tuple[float, Tensor]:
        """Return L(θ) and ∇L(θ) (size,) from one forward and backward pass."""
        leaves = self.leaves(at)
        points = list(leaves.values())

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[float, Tensor, float]:
            value, n = self.mean_loss(batch, weights)
            return float(value.detach()), self.layout.join(gradients(value, points)), n

        total = weight = 0.0
        sums = torch.zeros(self.size, dtype=self.dtype, device=self.device)
        for value, part, n in self.each_chunk(of_chunk, leaves):
            sums.add_(part, alpha=n)
            total += n * value
            weight += n
        self.cost.gradients += 1
        gradient = sums / weight
        if not bool(torch.isfinite(gradient).all()):
            raise NonFiniteError(not_finite("the gradient", total / weight))
        return total / weight, gradient

    @retry_with_smaller_chunks
    def hvp(self, v: Tensor, at: Tensor | None = None) -> Tensor:
        """Return ∇²L(θ) v for a vector (size,) or a block (k, size)."""
        return self.multiply(self.hessian_graphs(self.leaves(at)), v)

    def hessian_graphs(
        self, leaves: dict[str, Tensor], skip: int = 0
    ) -> Iterator[tuple[HessianOfChunk, float]]:
        """Yield (the Hessian of a chunk's mean loss, number of samples); see `leaves`."""
        points = list(leaves.values())

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[HessianOfChunk, float]:
            value, n = self.mean_loss(batch, weights)
            return HessianOfChunk.of(value, points, self.layout), n

        return self.each_chunk(of_chunk, leaves, skip=skip, prepare=replace_convolutions)

    def gauss_newton_graphs(
        self, leaves: dict[str, Tensor], skip: int = 0
    ) -> Iterator[tuple[GaussNewtonOfChunk, float]]:
        """Yield (the Gauss-Newton matrix of a chunk's mean loss, number of samples); see `leaves`."""
        if self.loss is None:
            raise InputError(
                "the Gauss-Newton matrix needs the model's outputs apart from the loss, received an objective made "
                "with from_batch_loss; build it from loss(outputs, targets), or use matrix='hessian'"
            )
        points = list(leaves.values())

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[GaussNewtonOfChunk, float]:
            outputs, loss = self.outputs_and_loss(batch, weights)
            return GaussNewtonOfChunk.of(outputs, loss, points, self.layout), loss.weight

        return self.each_chunk(of_chunk, leaves, skip=skip)

    def multiply(self, graphs: Iterable[tuple[ChunkProduct, float]], v: Tensor) -> Tensor:
        """Return products with a vector (size,) or block (k, size), summed over the chunks' graphs, counted."""
        if v.ndim not in (1, 2) or v.shape[-1] != self.size:
            raise InputError(
                f"hvp takes a vector of shape ({self.size},) or a block (k, {self.size}), "
                f"received {tuple(v.shape)}; flatten with Objective.layout.join"
            )
        weight = 0.0
        with torch.inference_mode(False):
            block = v.detach().to(self.device, self.dtype).reshape(-1, self.size).clone()  # (k, size)
            out = torch.zeros_like(block)
            for product, n in graphs:
                for row, vector in zip(out, block, strict=True):
                    row.add_(product(vector), alpha=n)
                weight += n
        self.cost.products += len(block)
        out /= weight
        if not bool(torch.isfinite(out).all()):
            raise NonFiniteError(not_finite("a Hessian-vector product", float("nan")))
        return out.reshape(v.shape)


def not_finite(what: str, loss: float) -> str:
    """Return the sentence for a value that is NaN or infinite."""
    return (
        f"{what} must be finite at the measured parameters, the loss there is {loss:g}; "
        "the run has diverged or the inputs are not scaled: measure an earlier checkpoint"
    )


def _uses_batch_statistics(module: nn.Module) -> bool:
    """Return whether a module is batch normalisation without running statistics: it always couples samples."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None
