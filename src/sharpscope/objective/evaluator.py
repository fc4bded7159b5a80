"""The engine behind an objective: losses, gradients and curvature of a measured function, chunk by chunk.

Measures that only need L(θ), ∇L(θ) and products call `Objective`. Those that need more (other precisions, kept
graphs, many points in one pass, outputs apart from the loss) find it here as ``obj.evaluator``.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from types import MethodType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sharpscope.autograd.convolution import replace_convolutions
from sharpscope.autograd.module_state import SavedState
from sharpscope.errors import InputError, NonFiniteError
from sharpscope.objective.batches import FixedBatches
from sharpscope.objective.chunking import retry_with_smaller_chunks
from sharpscope.objective.distribution import data_parallel
from sharpscope.objective.graphs import ChunkProduct, GaussNewtonOfChunk, HessianOfChunk, gradients
from sharpscope.objective.mean_loss import counts_of
from sharpscope.objective.measured_data import Loss
from sharpscope.objective.measured_function import BatchLoss, MeasuredFunction
from sharpscope.objective.parameters import Selection, layout_of, select
from sharpscope.objective.sharded_models import sharded_model

Matrix = Literal["hessian", "ggn"]


LONG_CHECK = 2.0
"""Seconds from which a check of products is long enough to say what a product takes."""

PRODUCT_OF_CHECK = 2.0 / 5.5
"""A product's cost beside that of a check, both of the same samples: 2 gradients, and a graph and two products."""


class Evaluator(MeasuredFunction):
    """Evaluates a measured function over all its chunks, and counts what that costs.

    ``check_products`` is called before the first product with a matrix of this function, or of the same function on
    other data or at another point; see `sharpscope.objective.product_checks.check_products`. Where it takes long,
    ``seconds_per_product`` is what a product with all the data may take, by the share of it that was looked at.
    """

    check_products: Callable[[Evaluator, Matrix], float] | None = None
    seconds_per_product: float | None = None

    def verify(self, matrix: Matrix) -> None:
        """Check products with a matrix of this function, once."""
        if self.check_products is None or matrix in self.verified:
            return
        self.verified.add(matrix)
        check, shares = self.check_products, [1.0]

        def looked_at() -> None:
            shares[0] = check(self, matrix)

        began = time.perf_counter()
        try:
            if self.distribution is None:
                looked_at()
            else:
                self.distribution.check(looked_at, self)
        except BaseException:
            self.verified.discard(matrix)
            raise
        seconds = time.perf_counter() - began
        if seconds > LONG_CHECK:
            self.seconds_per_product = seconds / shares[0] * PRODUCT_OF_CHECK
        self.chunk_done(0)

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
        if self.loss is None:
            return self.n_samples
        if self.distribution is not None:
            return sum(self.per_rank)
        return sum(len(targets) for _, targets in self.batches)

    def added_up(
        self, function: Callable[[], tuple[Tensor | None, tuple[float, ...]]], count: int
    ) -> tuple[Tensor | None, Sequence[float]]:
        """Return what ``function`` returns for this process's data, tensor and numbers, summed over all the data."""
        return function() if self.distribution is None else self.distribution.add_up(function, count)

    @retry_with_smaller_chunks
    def value(self, at: Tensor | None = None) -> float:
        """Return L(θ) at the point measured at or at a flat vector (size,); it may be infinite or NaN there."""

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[float, float]:
            value, n = self.mean_loss(batch, weights)
            return float(value.detach()), n

        def of_own_data() -> tuple[None, tuple[float, float]]:
            total = weight = 0.0
            try:
                for value, n in self.each_chunk(of_chunk, self.leaves(at, grad=False), grad=False):
                    total += n * value
                    weight += n
            except RuntimeError as error:
                if self.records_always or "does not require grad" not in str(error):
                    raise
                self.records_always = True
                return of_own_data()
            return None, (total, weight)

        _, (total, weight) = self.added_up(of_own_data, 2)
        self.cost.losses += 1
        if self.loss is None:
            self._total_weight = weight
        return total / _positive(weight)

    @retry_with_smaller_chunks
    def value_and_gradient(self, at: Tensor | None = None) -> tuple[float, Tensor]:
        """Return L(θ) and ∇L(θ) (size,) from one forward and backward pass."""
        leaves, own = self.leaves(at), self.layout.own
        points = list(leaves.values())

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[float, Tensor, float]:
            value, n = self.mean_loss(batch, weights)
            return float(value.detach()), own.join(gradients(value, points)), n

        def of_own_data() -> tuple[Tensor, tuple[float, float]]:
            total = weight = 0.0
            sums = torch.zeros(own.size, dtype=self.dtype, device=self.device)
            for value, part, n in self.each_chunk(of_chunk, leaves):
                sums.add_(part, alpha=n)
                total += n * value
                weight += n
            return sums, (total, weight)

        sums, (total, weight) = self.added_up(of_own_data, 2)
        assert sums is not None
        self.cost.gradients += 1
        gradient = self.layout.vectors(sums / _positive(weight))
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
        self.verify("hessian")
        return self.each_chunk(self.hessian_of(leaves), leaves, skip=skip, prepare=replace_convolutions)

    def hessian_of(
        self, leaves: dict[str, Tensor]
    ) -> Callable[[Any, Tensor | None], tuple[HessianOfChunk, float]]:
        """Return the function that `each_chunk` takes to build a chunk's Hessian."""
        points = list(leaves.values())

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[HessianOfChunk, float]:
            value, n = self.mean_loss(batch, weights)
            return HessianOfChunk.of(value, points, self.layout.own), n

        return of_chunk

    def gauss_newton_graphs(
        self, leaves: dict[str, Tensor], skip: int = 0
    ) -> Iterator[tuple[GaussNewtonOfChunk, float]]:
        """Yield (the Gauss-Newton matrix of a chunk's mean loss, number of samples); see `leaves`."""
        self.verify("ggn")
        return self.each_chunk(self.gauss_newton_of(leaves), leaves, skip=skip)

    def gauss_newton_of(
        self, leaves: dict[str, Tensor]
    ) -> Callable[[Any, Tensor | None], tuple[GaussNewtonOfChunk, float]]:
        """Return the function that `each_chunk` takes to build a chunk's Gauss-Newton matrix."""
        if self.loss is None:
            raise InputError(
                "the Gauss-Newton matrix needs the model's outputs apart from the loss, received an objective made "
                "with from_batch_loss; build it from loss(outputs, targets), or use matrix='hessian'"
            )
        points = list(leaves.values())

        def of_chunk(batch: Any, weights: Tensor | None) -> tuple[GaussNewtonOfChunk, float]:
            outputs, loss = self.outputs_and_loss(batch, weights)
            return GaussNewtonOfChunk.of(outputs, loss, points, self.layout.own), loss.weight

        return of_chunk

    def multiply(self, graphs: Iterable[tuple[ChunkProduct, float]], v: Tensor) -> Tensor:
        """Return products with a vector (size,) or block (k, size), summed over the chunks' graphs, counted."""
        if v.ndim not in (1, 2) or v.shape[-1] != self.size:
            raise InputError(
                f"hvp takes a vector of shape ({self.size},) or a block (k, {self.size}), "
                f"received {tuple(v.shape)}; flatten with Objective.layout.join"
            )
        with torch.inference_mode(False):
            block = self.layout.own_rows(v.detach().to(self.device, self.dtype)).clone()  # (k, own size)

            def of_own_data() -> tuple[Tensor, tuple[float, float]]:
                weight, loss = 0.0, torch.zeros((), device=self.device)
                out = torch.zeros_like(block)
                for product, n in graphs:
                    self.add_products(out, product, block, n)
                    weight += n
                    loss = loss + n * product.value
                return out, (weight, float(loss))

            out, (weight, loss) = self.added_up(of_own_data, 2)
        assert out is not None
        self.cost.products += len(block)
        out /= _positive(weight)
        out = self.layout.vectors(out)
        if not bool(torch.isfinite(out).all()):
            raise NonFiniteError(not_finite("a Hessian-vector product", loss / weight))
        return out.reshape(v.shape)

    def add_products(self, out: Tensor, product: ChunkProduct, block: Tensor, n: float) -> None:
        """Add n times a chunk's products with the rows of a block to the rows of ``out`` (k, size)."""

        def add(saved: SavedState | None) -> None:
            if saved is not None:
                replace_convolutions(self.model)
                self.substitute(saved, dict(zip(self.layout.names, product.leaves, strict=True)))
            for row, vector in zip(out, block, strict=True):
                row.add_(product(vector), alpha=n)

        if "torch.utils.checkpoint" in sys.modules:  # whose backward calls the model again
            self.measuring(add, grad=False)
        else:
            add(None)


def not_finite(what: str, loss: float) -> str:
    """Return the sentence for a value that is NaN or infinite."""
    if math.isfinite(loss):
        return (
            f"{what} must be finite at the measured parameters, it is not although the loss is {loss:g}; an "
            "operation has no derivative there (a norm or a square root at zero) or overflows: add a small constant"
        )
    return (
        f"{what} must be finite at the measured parameters, the loss there is {loss:g}; "
        "the run has diverged or the inputs are not scaled: measure an earlier checkpoint"
    )


def _positive(weight: float) -> float:
    """Return the sum of the chunks' weights; refuse none at all."""
    if weight == 0:
        raise InputError(
            "some sample must count in the loss, received data whose targets are all ignored or have class weight 0; "
            "check ignore_index and weight"
        )
    return weight


def _without_wrappers(model: nn.Module) -> nn.Module:
    """Return the module as it was written, with the same parameters.

    A compiled module has no double backward; DistributedDataParallel waits for ranks that do not measure; the module
    of Lightning Fabric and the ``forward`` that accelerate sets compute in the precision of training.
    """
    inside: Any = model
    while True:
        if hasattr(inside, "_orig_mod"):
            inside = inside._orig_mod
        elif isinstance(inside, nn.parallel.DistributedDataParallel) or hasattr(inside, "_forward_module"):
            inside = inside.module
        elif (own := vars(inside).get("_original_forward")) is not None:
            inside = copy(inside)  # which shares parameters, buffers and modules
            inside.forward = MethodType(own.__func__, inside) if hasattr(own, "__func__") else own
            del inside._original_forward
        else:
            found: nn.Module = inside
            return found


def evaluator_of(
    model: nn.Module,
    loss: Loss | None,
    batch_loss: BatchLoss | None,
    batches: Any,
    mode: str,
    dropout: bool,
    dropout_seed: int,
    params: Selection,
    dtype: torch.dtype | None,
    group: Any = None,
) -> Evaluator:
    """Return an evaluator of checked arguments."""
    if mode not in ("eval", "train"):
        raise InputError(f"mode must be 'eval' or 'train', received {mode!r}; BN and dropout follow it")
    if dropout and mode != "train":
        raise InputError(f"dropout=True needs mode='train', received mode={mode!r}; set mode='train'")
    if dtype not in (None, torch.float32, torch.float64):
        raise InputError(f"dtype must be torch.float32 or torch.float64, received {dtype}; leave it out")
    model = _without_wrappers(model)
    chosen = select(model, params)
    doubles = all(p.dtype == torch.float64 for p in chosen.values())
    device = next(iter(chosen.values())).device
    distribution = sharded_model(model, group, device) or data_parallel(group, device)
    data = FixedBatches(batches, pairs=loss is not None, may_be_empty=distribution is not None)
    evaluator = Evaluator(
        model,
        loss,
        batch_loss,
        data,
        layout_of(chosen),
        dtype or (torch.float64 if doubles else torch.float32),
        device,
        mode,
        dropout,
        dropout_seed,
    )
    evaluator.distribution = distribution
    evaluator.layout = evaluator.layout_of(chosen)
    if loss is not None and data.count:
        evaluator.counts = counts_of(loss, next(iter(data))[1])
    if distribution is not None:
        distribution.require_agreement(evaluator)
        evaluator.count_samples()
        if not sum(evaluator.batches_per_rank):
            raise InputError("some rank must hold data, received batches on none of them; check the loaders")
    return evaluator
