"""L(θ) on fixed data: the loss every measure looks at, its gradient and its Hessian products.

    L(θ) = (1/N) Σ_b n_b · loss(model_θ(x_b), y_b)        N = Σ_b n_b

Batches count by their number of samples. Everything is computed on detached views of the model's
parameters and on copies of its buffers, so measuring leaves the model bit-identical. As long as an
objective on the CPU lives, memory that is freed stays with the process (`sharpscope.autograd.allocator`).
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpscope.autograd.allocator import keep_freed_memory
from sharpscope.autograd.convolution import convolutions_made_for_second_derivatives
from sharpscope.autograd.double_backward import twice_differentiable
from sharpscope.autograd.functional import substituted
from sharpscope.autograd.module_state import declared_mode, preserved_random_state
from sharpscope.errors import InputError, NonFiniteError
from sharpscope.objective.batches import FixedBatches, cut, map_tensors, update_with_tensor
from sharpscope.objective.chunking import chunk_for, counting_held_bytes, retry_with_smaller_chunks
from sharpscope.objective.graphs import ChunkProduct, GaussNewtonOfChunk, HessianOfChunk
from sharpscope.objective.loss_checks import check_mean_reduction, checked_batch_loss, describe_callable
from sharpscope.objective.parameters import Layout, Selection, layout_of, select
from sharpscope.objective.transformers import CHUNK_TOKENS, HeadLoss, TokenBatches, TransformersLoss, loss_for
from sharpscope.objective.weighted_mean import WeightedMean
from sharpscope.seeding import seed_of

Loss = Callable[[Any, Any], Tensor]
BatchLoss = Callable[[nn.Module, Any], tuple[Tensor, float]]


@dataclass
class Cost:
    """Full-data evaluations an objective has been asked for: losses, gradients, Hessian-vector products."""

    losses: int = 0
    gradients: int = 0
    products: int = 0

    def since(self, before: Cost) -> dict[str, int]:
        """Return what was spent after ``before`` (a copy taken earlier)."""
        return {key: value - getattr(before, key) for key, value in asdict(self).items()}


class Objective:
    """The loss of a model on fixed data as a function of its flat parameter vector θ (size,).

    Parameters
    ----------
    model
        Any ``nn.Module`` on one device. It is never modified; its weights at each call are θ.
    loss
        ``loss(outputs, targets)`` returns the mean over the batch as a scalar tensor.
    batches
        A pair ``(inputs, targets)`` of tensors, an iterable of such pairs that can be read more than
        once, or a ``DataLoader`` that neither shuffles nor augments.
    mode
        ``"eval"``, or ``"train"``: batch normalisation on the statistics of each batch as given. Dropout
        is off in both unless ``dropout=True`` with ``mode="train"``; its masks are then drawn from
        ``dropout_seed`` and are the same on every call.
    params
        Names, shell patterns or a predicate (name, parameter) choosing what is measured; by default every
        trainable parameter.
    dtype
        Precision of θ and the arithmetic; by default float64 if all measured parameters are, else float32
        (half-precision weights are measured at their exact values in float32).
    chunk_size
        Samples evaluated together, by default as many as suit the processor's caches; halved where memory runs out.
        Changes rounding only. Ignored where samples of a batch interact.

    Raises
    ------
    InputError
        If the loss is not a mean, the data changes between readings, or nothing is left to measure.
    NonFiniteError
        From the methods, where a loss, gradient or product is NaN or infinite.

    Examples
    --------
    A quadratic with Hessian diag(1, 3), from two samples that count equally:

    >>> model = nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[2.0**0.5, 0.0], [0.0, 6.0**0.5]])
    >>> half_square = lambda outputs, targets: 0.5 * (outputs - targets).square().mean()
    >>> obj = Objective(model, half_square, (x, torch.zeros(2, 1)))
    >>> obj.hvp(torch.tensor([1.0, 1.0])).round(decimals=4)
    tensor([1., 3.])

    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        batches: Any,
        mode: str = "eval",
        *,
        dropout: bool = False,
        dropout_seed: int = 0,
        params: Selection = None,
        dtype: torch.dtype | None = None,
        chunk_size: int | None = None,
    ) -> None:
        if not callable(loss):
            raise InputError(
                f"loss must be callable as loss(outputs, targets), received {type(loss).__name__}; "
                "pass for example torch.nn.functional.cross_entropy"
            )

        def batch_loss(module: nn.Module, batch: Any) -> tuple[Tensor, float]:
            inputs, targets = batch
            return loss(module(inputs), targets), len(targets)

        self._loss: Loss | None = loss
        self._setup(model, batch_loss, batches, mode, dropout, dropout_seed, params, dtype, chunk_size)
        first_inputs, first_targets = next(iter(self.batches))
        x, y = self._placed((first_inputs[:64], first_targets[:64]))
        leaves = self.leaves(None, grad=True)
        storages = {tensor.untyped_storage().data_ptr() for tensor in leaves.values()}
        with ExitStack() as stack:
            stack.enter_context(self._measuring())
            stack.enter_context(torch.enable_grad())
            stack.enter_context(substituted(self.model, self._substitutes(leaves)))
            held = stack.enter_context(counting_held_bytes(storages))
            outputs = self.model(x)
        with torch.no_grad():
            check_mean_reduction(loss, outputs, y)
        self.held_per_sample = sum(held) / len(y)
        if not self.batch_dependent and chunk_size is None:
            self.chunk_size = chunk_for(self.held_per_sample, self.device)

    @classmethod
    def from_batch_loss(
        cls,
        model: nn.Module,
        batches: Any,
        batch_loss: BatchLoss,
        mode: str = "eval",
        *,
        dropout: bool = False,
        dropout_seed: int = 0,
        params: Selection = None,
        dtype: torch.dtype | None = None,
    ) -> Objective:
        """Build an objective from ``batch_loss(model, batch) -> (mean_loss, n_samples)``.

        For graphs, language models and dict batches. ``n_samples`` (tokens, nodes, images) weighs the
        batch; batches are evaluated whole.
        """
        self = cls.__new__(cls)
        self._loss = None
        self._setup(model, batch_loss, batches, mode, dropout, dropout_seed, params, dtype, None)
        return self

    @classmethod
    def from_transformers(
        cls,
        model: nn.Module,
        batches: Any,
        *,
        loss: HeadLoss | None = None,
        chunk_tokens: int | None = CHUNK_TOKENS,
        **options: Any,
    ) -> Objective:
        """Build an objective of a model of Hugging Face's transformers, with the loss that its head trains with.

        Parameters
        ----------
        batches
            A dictionary of tensors, or an iterable of them that can be read more than once: ``input_ids``,
            ``attention_mask``, ``labels``, ``pixel_values``, …, as tokenizers and collators return them. A causal
            language model without ``labels`` predicts its own inputs; padding does not count. The label −100 is
            ignored.
        loss
            ``loss(outputs, batch) -> (mean, number of labels)`` in place of the head's own, see
            `sharpscope.objective.transformers.loss_for`. It changes nothing about which tokens count.
        chunk_tokens
            Batches are cut by rows so that no part holds more tokens; None leaves them whole. What a Hessian product
            holds in memory grows with it.
        options
            As in `from_batch_loss`: mode, dropout, params, dtype.

        """
        head = loss_for(model) if loss is None else TransformersLoss(loss)
        cut = chunk_tokens if head.cuts else None
        return cls.from_batch_loss(model, TokenBatches(batches, cut, head.causal), head, **options)

    def _setup(
        self,
        model: nn.Module,
        batch_loss: BatchLoss,
        batches: Any,
        mode: str,
        dropout: bool,
        dropout_seed: int,
        params: Selection,
        dtype: torch.dtype | None,
        chunk_size: int | None,
    ) -> None:
        if mode not in ("eval", "train"):
            raise InputError(f"mode must be 'eval' or 'train', received {mode!r}; BN and dropout follow it")
        if dropout and mode != "train":
            raise InputError(f"dropout=True needs mode='train', received mode={mode!r}; set mode='train'")
        if chunk_size is not None and chunk_size < 1:
            raise InputError(f"chunk_size must be at least 1, received {chunk_size}; leave it at its default")
        if dtype not in (None, torch.float32, torch.float64):
            raise InputError(f"dtype must be torch.float32 or torch.float64, received {dtype}; leave it out")
        model = getattr(model, "_orig_mod", model)  # a compiled module has no double backward
        self.model = model
        self.mode, self.dropout, self.dropout_seed = mode, dropout, dropout_seed
        chosen = select(model, params)
        self.layout: Layout = layout_of(chosen)
        doubles = all(p.dtype == torch.float64 for p in chosen.values())
        self.dtype = dtype or (torch.float64 if doubles else torch.float32)
        self.device = next(iter(chosen.values())).device
        self.batches = FixedBatches(batches, pairs=self._loss is not None)
        self.batch_dependent = mode == "train" or any(_uses_batch_statistics(m) for m in model.modules())
        self.chunk_size = None if self.batch_dependent else chunk_size
        self._batch_loss = batch_loss
        self.cost = Cost()
        self._n_samples: float | None = None
        if self.device.type == "cpu":
            weakref.finalize(self, keep_freed_memory())

    # -- the measured function ---------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Number of parameters measured."""
        return self.layout.size

    @property
    def n_samples(self) -> float:
        """N, the number of samples that the mean is over (for `from_batch_loss`, the sum of its weights)."""
        if self._n_samples is None:
            if self._loss is not None:
                weights = self.weights
                self._n_samples = self.evaluated if weights is None else float(weights.sum())
            else:
                self.loss()
        assert self._n_samples is not None
        return self._n_samples

    @property
    def separable(self) -> bool:
        """Whether a loss of outputs and targets is given and no sample's depends on another."""
        return self._loss is not None and not self.batch_dependent

    @property
    def evaluated(self) -> float:
        """Number of samples that one evaluation takes: N, but for a part of the data drawn with weights."""
        return self.n_samples if self._loss is None else sum(len(targets) for _, targets in self.batches)

    def flat(self) -> Tensor:
        """Return a copy of the point measured at, the model's current parameters, as a flat vector (size,)."""
        if self._centre is not None:
            return self._centre.clone()
        parameters = dict(self.model.named_parameters())
        return self.layout.join(parameters[name].detach().to(self.dtype) for name in self.layout.names)

    @retry_with_smaller_chunks
    def loss(self, at: Tensor | None = None) -> float:
        """Return L(θ), at the model's parameters or at a flat vector ``at`` (size,).

        At the model's own parameters a non-finite value raises `NonFiniteError`; at a given point it is
        returned, since a perturbed network may truly overflow.
        """
        total = weight = 0.0
        with self._measuring(), torch.no_grad():
            for value, n in self._chunk_losses(self.leaves(at, grad=False)):
                total += n * float(value)
                weight += n
        self.cost.losses += 1
        self._n_samples = weight
        if at is None and not math.isfinite(total):
            raise NonFiniteError(_not_finite("the loss", total / weight))
        return total / weight

    def gradient(self, at: Tensor | None = None) -> Tensor:
        """Return ∇L(θ) as a flat vector (size,)."""
        return self.loss_and_gradient(at)[1]

    @retry_with_smaller_chunks
    def loss_and_gradient(self, at: Tensor | None = None) -> tuple[float, Tensor]:
        """Return L(θ) and ∇L(θ) (size,) from one forward and backward pass."""
        total = weight = 0.0
        with self._measuring(), torch.enable_grad():
            sums = torch.zeros(self.size, dtype=self.dtype, device=self.device)
            leaves = self.leaves(at, grad=True)
            for value, n in self._chunk_losses(leaves):
                parts = _gradients(value, list(leaves.values()))
                sums.add_(self.layout.join(parts), alpha=n)
                total += n * float(value.detach())
                weight += n
        self.cost.gradients += 1
        gradient = sums / weight
        if not bool(torch.isfinite(gradient).all()):
            raise NonFiniteError(_not_finite("the gradient", total / weight))
        return total / weight, gradient

    @retry_with_smaller_chunks
    def hvp(self, v: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the Hessian-vector product ∇²L(θ) v, exact, by double backward.

        ``v`` is a flat vector (size,) or a block of k of them (k, size), which share one first-order graph;
        the result has its shape.
        """
        return self.multiply(self.hessian_graphs(self.leaves(at, grad=True)), v)

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
            raise NonFiniteError(_not_finite("a Hessian-vector product", float("nan")))
        return out.reshape(v.shape)

    def subset(self, indices: Tensor, weights: Tensor | None = None) -> Objective:
        """Return the objective over chosen samples (m,) of the same data, as one batch; shares the model.

        ``weights`` (m,) say how many samples each stands for, one if left out; equal ones should be side by side.
        """
        if self._loss is None:
            raise InputError(
                "single samples cannot be drawn from from_batch_loss batches, received indices; "
                "build the objective from (inputs, targets), or pass the batches you want"
            )
        with torch.inference_mode(False):
            inputs, targets = self._all_tensors()
            index = indices.to(inputs.device)
            part = self.with_data((inputs[index], targets[index.to(targets.device)]))
        part.weights = weights
        return part

    def with_data(self, batches: Any) -> Objective:
        """Return the same objective over other batches; shares the model."""
        other = copy(self)
        other.batches = FixedBatches(batches, pairs=self._loss is not None)
        other.weights = None
        other._tensors = None
        other._n_samples = None
        other.cost = Cost()
        return other

    def at(self, to: Tensor) -> Objective:
        """Return this objective with another point (size,) in place of the model's own parameters."""
        there = copy(self)
        there._centre = to.detach().to(self.device, self.dtype).clone()
        self.layout.split(there._centre)  # refuses a wrong length
        there.cost = Cost()
        return there

    @property
    def fingerprint(self) -> str:
        """A stable hash of weights, buffers, data, loss, mode, selection and precision (16 hex digits).

        Two equal fingerprints mean the same measured function; it is stored beside every number.
        """
        digest = hashlib.sha256()
        for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]:
            digest.update(name.encode())
            update_with_tensor(digest, tensor)
        if self._centre is not None:
            update_with_tensor(digest, self._centre)
        what = self._loss if self._loss is not None else self._batch_loss
        digest.update(self.batches.digest.encode())
        if self.weights is not None:
            update_with_tensor(digest, self.weights)
        digest.update(repr(tuple(len(b[1]) for b in self.batches) if self.mode == "train" else "").encode())
        digest.update(
            repr(
                (describe_callable(what), self.protocol, self.layout.names, type(self.model).__qualname__)
            ).encode()
        )
        return digest.hexdigest()[:16]

    @property
    def protocol(self) -> dict[str, object]:
        """How the function is evaluated: mode, dropout and precision, as stored beside every number."""
        return {
            "mode": self.mode,
            "dropout": self.dropout,
            **({"dropout_seed": self.dropout_seed} if self.dropout else {}),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    # -- how it is evaluated -----------------------------------------------------------------------

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """Declared mode, seeded randomness, no autocast, attention kernels that differentiate twice."""
        with ExitStack() as stack:
            stack.enter_context(preserved_random_state())
            stack.enter_context(declared_mode(self.model, self.mode, self.dropout))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.autocast(self.device.type, enabled=False))
            stack.enter_context(twice_differentiable(self.model, self.device))
            yield

    def leaves(self, at: Tensor | None, grad: bool) -> dict[str, Tensor]:
        """Return the measured parameters as fresh leaves, at the model's values or at a flat vector."""
        at = self._centre if at is None else at
        with torch.inference_mode(False):
            if at is None:
                given = dict(self.model.named_parameters())
                tensors = {name: given[name].detach().to(self.dtype) for name in self.layout.names}
            else:
                tensors = self.layout.split(at.detach().to(self.device, self.dtype))
            return {name: tensor.detach().requires_grad_(grad) for name, tensor in tensors.items()}

    def _substitutes(self, leaves: dict[str, Tensor]) -> dict[int, Tensor]:
        """Return what to hold in place of every parameter and buffer: leaves, detached others, copies."""
        parameters = {
            id(p): leaves.get(name, self._cast(p.detach())) for name, p in self.model.named_parameters()
        }
        return parameters | {id(b): self._cast(b.detach()).clone() for b in self.model.buffers()}

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def _placed(self, batch: Any) -> Any:
        return map_tensors(batch, lambda t: self._cast(t.to(self.device)))

    def smaller_chunks(self) -> int | None:
        """Halve the chunks and return their new size; None where samples interact or chunks hold one sample."""
        if self.chunk_size is None or self.chunk_size == 1:
            return None
        self.chunk_size //= 2
        return self.chunk_size

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

    def _chunk_losses(self, leaves: dict[str, Tensor], skip: int = 0) -> Iterator[tuple[Tensor, float]]:
        """Yield (mean loss with its graph, weight: the number of samples) chunk by chunk.

        Every chunk starts from the model's own buffers and its own seed, so that none depends on another.
        """
        for value, n in self._on_chunks(self._mean_loss, leaves, skip):
            yield checked_batch_loss(value, n)

    def _on_chunks(
        self, function: Callable[[Any, Tensor | None], Any], leaves: dict[str, Tensor], skip: int = 0
    ) -> Iterator[Any]:
        """Yield ``function(chunk, weights)`` with leaves in place of the model's parameters."""
        for index, chunk, weights in self.chunks(skip):
            torch.manual_seed(seed_of("dropout", self.dropout_seed, index))
            with substituted(self.model, self._substitutes(leaves)):
                answer = function(self._placed(chunk), weights)
            yield answer

    def _mean_loss(self, batch: Any, weights: Tensor | None) -> tuple[Any, Any]:
        """Return (mean loss, weight) of a chunk; a loss that looks at the model's parameters finds the leaves."""
        if weights is None:
            return self._batch_loss(self.model, batch)
        outputs, mean = self._outputs_and_mean(batch, weights)
        return mean(outputs), mean.weight

    def _outputs_and_mean(self, batch: Any, weights: Tensor | None) -> tuple[Any, WeightedMean]:
        """Return (the model's outputs for a chunk, their mean loss as a function of outputs)."""
        assert self._loss is not None
        inputs, targets = batch
        return self.model(inputs), WeightedMean(self._loss, targets, weights)

    def hessian_graphs(
        self, leaves: dict[str, Tensor], skip: int = 0
    ) -> Iterator[tuple[HessianOfChunk, float]]:
        """Yield (the Hessian of a chunk's mean loss, number of samples); see `leaves`."""
        points = list(leaves.values())
        with (
            self._measuring(),
            convolutions_made_for_second_derivatives(self.model),
            torch.enable_grad(),
        ):
            for value, n in self._chunk_losses(leaves, skip):
                yield HessianOfChunk(_gradients(value, points, create_graph=True), points, self.layout), n

    def gauss_newton_graphs(
        self, leaves: dict[str, Tensor], skip: int = 0
    ) -> Iterator[tuple[GaussNewtonOfChunk, float]]:
        """Yield (the Gauss-Newton matrix of a chunk's mean loss, number of samples); see `leaves`."""
        if self._loss is None:
            raise InputError(
                "the Gauss-Newton matrix needs the model's outputs apart from the loss, received an objective made "
                "with from_batch_loss; build it from loss(outputs, targets), or use matrix='hessian'"
            )
        points = list(leaves.values())
        for outputs, loss in self.outputs_and_losses(leaves, skip):
            if not isinstance(outputs, Tensor):
                raise InputError(
                    "the Gauss-Newton matrix needs a model that returns one tensor, received "
                    f"{type(outputs).__name__}; wrap the model, or use matrix='hessian'"
                )
            dummy = torch.zeros_like(outputs, requires_grad=True)
            pulled = _gradients(outputs, points, create_graph=True, weights=dummy)
            free = outputs.detach().requires_grad_()
            (slope,) = torch.autograd.grad(loss(free), free, create_graph=True)
            yield (
                GaussNewtonOfChunk(outputs, dummy, pulled, free, slope, points, self.layout),
                loss.weight,
            )

    def outputs_and_losses(
        self, leaves: dict[str, Tensor], skip: int = 0
    ) -> Generator[tuple[Any, WeightedMean], None, None]:
        """Yield (outputs with their graph, mean loss as a function of outputs) chunk by chunk; see `leaves`."""
        with self._measuring(), torch.enable_grad():
            yield from self._on_chunks(self._outputs_and_mean, leaves, skip)

    chunk_size: int | None
    held_per_sample: float | None = None
    """Bytes that a forward pass holds for its backward pass, where single samples can be told apart."""
    weights: Tensor | None = None
    """How many samples each of the only batch's stands for (m,), equal ones side by side; ones if None."""
    _tensors: tuple[Tensor, Tensor] | None = None
    _centre: Tensor | None = None

    def _all_tensors(self) -> tuple[Tensor, Tensor]:
        if self._tensors is None:
            self._tensors = self.batches.tensors()
        return self._tensors


def _gradients(
    value: Tensor, leaves: list[Tensor], create_graph: bool = False, weights: Tensor | None = None
) -> list[Tensor]:
    """Gradients of Σ value · weights with zeros for unused parameters."""
    if not value.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    return list(
        torch.autograd.grad(
            value, leaves, weights, create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    )


def _uses_batch_statistics(module: nn.Module) -> bool:
    """True for batch normalisation without running statistics: it couples samples in eval mode too."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None


def _not_finite(what: str, loss: float) -> str:
    return (
        f"{what} must be finite at the measured parameters, the loss there is {loss:g}; "
        "the run has diverged or the inputs are not scaled: measure an earlier checkpoint"
    )
